package dserver_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// Hold is a message whose handler does not return, or ends its goroutine.
type Hold struct{ Exits bool }

// No sender is at a handler's mercy, however patient its context: it is let go when the handler is given up, and goes on
// when the handler ends its goroutine. Info ends with its context.
func TestNoHandlerHasItsSendersGoroutine(t *testing.T) {
	for _, exits := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			hang := make(chan struct{})
			hold := func(_ *dserver.Context, _ *Journal, m Hold) error {
				if m.Exits {
					runtime.Goexit()
				}
				<-hang
				return nil
			}
			types := journals.With(dserver.HandleCast(hold), dserver.HandleInfo(hold))
			db := newStore(t, types).Open()
			stop := run(t, dserver.Consumer{}, db, types)
			synctest.Wait()
			s := types.At(db, "a")
			short, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			type end struct {
				what string
				err  error
				took time.Duration
			}
			ends := make(chan end, 3)
			try := func(what string, send func() error) {
				go func() {
					e := end{what: what, err: errors.New("its goroutine was ended")}
					began := time.Now()
					defer func() { e.took = time.Since(began); ends <- e }()
					e.err = send()
				}()
			}
			try("call", func() error { return s.Call(context.Background(), Hold{exits}, nil) })
			try("info", func() error { return types.At(db, "b").Info(context.Background(), Hold{exits}) })
			try("short info", func() error { return types.At(db, "c").Info(short, Hold{exits}) })
			for range 3 {
				var e end
				select {
				case e = <-ends:
				case <-time.After(time.Minute):
					t.Errorf("exits %v: a sender is not let go", exits)
					continue
				}
				isShort := e.what == "short info" && !exits
				if isShort && (!errors.Is(e.err, context.DeadlineExceeded) || e.took > 2*time.Second) ||
					!isShort && (!errors.Is(e.err, dserver.ErrFault) || e.took > 5*time.Second) {
					t.Errorf("exits %v: %s ended after %v with %v", exits, e.what, e.took, e.err)
				}
			}
			close(hang)
			stop()
		})
	}
}

// Linger is a message whose handler takes so long.
type Linger struct{ For time.Duration }

// Each turn of a worker has all of the time for its handlers, and none has more.
func TestEachTurnHasItsOwnTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		types := journals.With(dserver.HandleCast(func(_ *dserver.Context, _ *Journal, m Linger) error {
			<-time.After(m.For)
			return nil
		}))
		db := newStore(t, types).Open()
		stop := run(t, dserver.Consumer{Turns: 1}, db, types)
		synctest.Wait()
		for i, takes := range []time.Duration{0, 3 * time.Second, 3 * time.Second, time.Hour, 3 * time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			err := types.At(db, "a").Call(ctx, Linger{takes}, nil)
			if isTooLong := takes > 4*time.Second; isTooLong != errors.Is(err, dserver.ErrFault) || !isTooLong && err != nil {
				t.Errorf("handler %d, which takes %v: %v", i, takes, err)
			}
			cancel()
		}
		<-time.After(time.Hour) // the one that was left behind returns
		stop()
	})
}
