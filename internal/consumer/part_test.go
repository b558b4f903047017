package consumer

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// calm is a consumer that does what it is told, and a server with one message, of another process, that nothing had come to for
// a time.
type calm struct {
	t      *testing.T
	c      *consumer
	s      *server
	def    *turn.Definition
	others backend.Database
}

func newCalm(t *testing.T, parts ...func(*turn.Definition)) *calm {
	t.Helper()
	store := backendtest.NewStore()
	def := define(append(parts, handling(func(s *marked) error { s.Done++; return nil }))...)
	c := colleague(t.Context(), store.Open(), def)
	c.max, c.caution.until = 0, time.Time{} // it has no workers, and is not careful
	k := &calm{t: t, c: c, s: c.server(refOf(def)), def: def, others: store.Open()}
	k.s.calm, k.s.quick, k.s.marked, k.s.active = true, true, true, &active{queued: time.Now().UnixNano()}
	k.push()
	return k
}

func (k *calm) push() {
	k.t.Helper()
	if err := handleOf(k.others, k.def).Cast(k.t.Context(), toil, tenant.How{}); err != nil {
		k.t.Error(err)
	}
}

func (k *calm) turn() nextTurn { return k.c.turn(k.c.visit(k.s, tenant.MaxBatch)) }

func (k *calm) scan() {
	k.t.Helper()
	look, err := k.c.scanOnce(k.t.Context(), tenant.ShardOf(refOf(k.def)), nil)
	if err != nil {
		k.t.Error(err)
	}
	look.cancel()
}

// check fails where the server has a mark, or has none, against what is wanted, or where a message is without one.
func (k *calm) check(isMarked bool, handled int) {
	k.t.Helper()
	err := k.others.Read(k.t.Context(), func(tx backend.ReadTx) error {
		there, err := tenant.IsThere(tx.Get(tenant.ReadyMark(refOf(k.def))))
		if there != isMarked {
			k.t.Errorf("the server has a mark: %v, not %v", there, isMarked)
		}
		return err
	})
	if err != nil {
		k.t.Fatal(err)
	}
	if k.s.marked != isMarked {
		k.t.Errorf("it counts as marked: %v, not %v", k.s.marked, isMarked)
	}
	if n := doneOf(k.t, k.others, k.def); n != handled {
		k.t.Errorf("%d messages were handled, not %d", n, handled)
	}
	if err := checkOf(k.t.Context(), k.others, k.def); err != nil {
		k.t.Error(err)
	}
}

func TestACalmServerHasNoMarkAfterItsLastMessage(t *testing.T) {
	k := newCalm(t)
	if next := k.turn(); next.now || next.after > 0 {
		t.Errorf("there is another turn: %+v", next)
	}
	k.check(false, 1)
}

func TestTheMarkStaysWhereMoreMayCome(t *testing.T) {
	k := newCalm(t)
	k.s.calm = false
	if next := k.turn(); next.after == 0 && !next.now {
		t.Error("there is no turn that looks whether more has come")
	}
	k.check(true, 1)

	k = newCalm(t)
	k.s.emptied = k.s.queued
	k.turn()
	k.check(true, 1)

	k = newCalm(t)
	k.s.quick = false
	k.turn()
	k.check(true, 1)
}

// A server without a state keeps the counters of its queue else, one with locked work is to be found by others, and one that
// has sent itself a message by all.
func TestTheMarkStaysWhereMoreIsToBeDone(t *testing.T) {
	k := newCalm(t, handling(func(*marked) error { return nil }))
	k.turn()
	k.check(true, 0)

	prepared := func(d *turn.Definition) {
		d.Init = &turn.Handler{Run: func(*turn.Scope, any, []byte) ([]byte, error) { return nil, nil }}
	}
	k = newCalm(t, prepared, locking(func(*turn.WorkAttempt) (int, error) { <-t.Context().Done(); return 0, nil }))
	k.turn()
	k.check(true, 0)

	sending := func(d *turn.Definition) {
		d.Handlers[toil.Name] = &turn.Handler{Name: toil.Name, Run: func(s *turn.Scope, state any, _ []byte) ([]byte, error) {
			state.(*marked).Done++
			s.Send(tenant.NewParcel(s.Self(), tenant.How{}, tenant.Envelope{Name: toil.Name, Body: toil.Body}))
			return nil, nil
		}}
	}
	k = newCalm(t, sending)
	k.turn()
	k.check(true, 1)
}

// What is pushed before the commit that would clear the mark is a conflict, and is handled with the rest.
func TestPushBeforeTheMarkIsClearedKeepsIt(t *testing.T) {
	k := newCalm(t)
	k.c.DB = &meddled{k.c.DB, sync.OnceFunc(k.push)}
	k.turn()
	k.check(true, 2)
	if k.s.calm {
		t.Error("it counts as calm")
	}
}

// committed is a database in which something happens when a transaction was committed, or instead of that.
type committed struct {
	backend.Database
	after   func()
	instead error
}

func (d *committed) Transact(ctx context.Context, fn func(tx backend.Tx) error) error {
	err := d.Database.Transact(ctx, func(tx backend.Tx) error {
		return errors.Join(fn(tx), d.instead)
	})
	if d.after != nil {
		d.after()
	}
	return err
}

// What wakes a server before the mark is cleared tells of nothing that the turn has not read.
func TestTheMarkOfTheMessageInHandWakesNobody(t *testing.T) {
	var k *calm
	k = newCalm(t, handling(func(s *marked) error { k.scan(); s.Done++; return nil }))
	k.turn()
	if k.s.look {
		t.Error("the server is looked at again")
	}
	k.check(false, 1)
}

// A mark that is found while another is cleared wakes nobody, and is found again.
func TestMarkThatIsSetWhileAnotherIsClearedIsFound(t *testing.T) {
	k := newCalm(t)
	again := k.c.posts[tenant.ShardOf(refOf(k.def))].marks
	db := k.c.DB
	k.c.DB = &meddled{db, k.scan}
	k.turn()
	k.check(false, 1)
	if k.s.look || k.s.scheduled {
		t.Error("the mark that was cleared woke the server")
	}
	if len(again) == 0 {
		t.Fatal("the marks are not read again")
	}
	<-again

	k.push()
	k.scan()
	k.c.DB = &committed{Database: db, after: sync.OnceFunc(func() { k.push(); k.scan() })}
	k.s.emptied = 0
	k.turn()
	if len(again) == 0 {
		t.Fatal("the marks are not read again")
	}
	k.scan()
	if !k.s.look {
		t.Error("the mark is not found")
	}
	k.check(true, 2)
}

func TestAMarkThatWasNotClearedIsKnownOf(t *testing.T) {
	k := newCalm(t)
	k.c.DB = &committed{Database: k.c.DB, instead: errors.New("it does not commit")}
	k.turn()
	if !k.s.look {
		t.Error("the server is not looked at again")
	}
	if k.s.calm {
		t.Error("it counts as calm")
	}
	k.check(true, 0)
}
