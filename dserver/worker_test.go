package dserver_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// Trip ends the goroutine of its handler in one of its runs.
type Trip struct{}

// A turn that was taken over, because a handler ended its goroutine, may meet another handler that does. The consumer's
// only worker lives on, for this server and the others.
func TestHandlerThatEndsTheGoroutineOfATurnTakenOverCostsNoWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		types := touchy.With(dserver.HandleCast(func(_ *dserver.Context, s *Touchy, _ Trip) error {
			if runs++; runs == 2 {
				runtime.Goexit()
			}
			s.Count++
			return nil
		}))
		store := newStore(t, types)
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		sender := types.At(store.Open(), "a")
		must(t, sender.CastAll(ctx, []any{Trip{}, Poison{"goexit"}, Increment{2}})) // one turn
		run(t, dserver.Consumer{Turns: 1}, store.Open(), types)
		began := time.Now()
		if n, err := dserver.Call(ctx, types.At(store.Open(), "b"), Value{}); n != 0 || err != nil {
			t.Errorf("the other server counted %d, %v", n, err)
		}
		if waited := time.Since(began); waited > time.Second { // virtual
			t.Errorf("the worker came back after %v", waited)
		}
		if n, err := dserver.Call(ctx, sender, Value{}); n != 3 || err != nil {
			t.Errorf("counted %d, %v", n, err)
		}
		if runs < 3 {
			t.Errorf("the first message was handled %d times", runs)
		}
	})
}

// An Upgrade that ends its goroutine is one that failed: its server is tried again, and the worker lives on.
func TestUpgradeThatEndsItsGoroutineCostsNoWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type Paper struct{ Pages []string }
		type Book struct{ Pages int }
		type Leaf struct{ Text string }
		type Pages struct{ dserver.Returns[int] }
		older := dserver.Define("paper", dserver.HandleCast(func(_ *dserver.Context, p *Paper, m Leaf) error {
			p.Pages = append(p.Pages, m.Text)
			return nil
		}))
		runs := 0
		newer := dserver.Define("paper",
			dserver.HandleCall(func(_ *dserver.Context, b *Book, _ Pages) (int, error) { return b.Pages, nil }),
			dserver.Upgrade(1, func(old Paper, b *Book) error {
				if runs++; runs <= 2 {
					runtime.Goexit()
				}
				b.Pages = len(old.Pages)
				return nil
			}))
		store := newStore(t, newer)
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		db := store.Open()
		stop := run(t, dserver.Consumer{}, db, older)
		must(t, older.At(db, "a").Cast(ctx, Leaf{"one"}))
		synctest.Wait()
		stop()

		run(t, dserver.Consumer{Turns: 1}, db, newer)
		if n, err := dserver.Call(ctx, newer.At(store.Open(), "a"), Pages{}); n != 1 || err != nil {
			t.Errorf("%d pages, %v", n, err)
		}
		if n, err := dserver.Call(ctx, newer.At(store.Open(), "b"), Pages{}); n != 0 || err != nil {
			t.Errorf("the other server has %d pages, %v", n, err)
		}
		if runs != 3 {
			t.Errorf("the Upgrade ran %d times", runs)
		}
	})
}
