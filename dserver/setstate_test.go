package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/statediff"
)

func TestAStateIsSetIfItIsAsItWasSeen(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s, far := ledgers.At(db, "x"), ledgers.At(open(), "x")
		start(t, db, ledgers)
		none, version, err := far.Versioned(ctx)
		if err != nil || !version.IsZero() || none.Seen != nil {
			t.Fatalf("%+v, %v, %v", none, version, err)
		}
		first, err := far.SetState(ctx, version, Ledger{Started: 1, Seen: []int{1}})
		must(t, err)
		must(t, s.Call(ctx, Note{2}, nil)) // on what was set, which is remembered then
		if _, err := far.SetState(ctx, first, Ledger{}); !errors.Is(err, dserver.ErrChanged) {
			t.Errorf("set over what was not seen: %v", err)
		}
		state, version, err := far.Versioned(ctx)
		must(t, err)
		same, err := far.SetState(ctx, version, state)
		if err != nil || same != version {
			t.Errorf("nothing was changed: %v, %v", same, err)
		}
		state.Seen, state.Text = append(state.Seen, 3), "set"
		last, err := far.SetState(ctx, version, state)
		must(t, err)
		if seen := seenAfter(t, ctx, s); !slices.Equal(seen, []int{1, 2, 3}) {
			t.Errorf("it has %v", seen)
		}
		if now, version, err := s.Versioned(ctx); err != nil || version != last || now.Text != "set" || now.Started != 1 {
			t.Errorf("%+v, %v, %v; want %v", now, version, err, last)
		}
		if status := statusOf(t, s); status.Version != 1 || time.Since(status.Created) > time.Minute {
			t.Errorf("%+v", status)
		}
	})
}

// Neither a turn nor who sets the state writes over the other, whatever consumers remember.
func TestTurnsAndSetStateLoseNothingOfEachOther(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s, far := counters.At(db, "x"), counters.At(open(), "x")
		start(t, db, counters)
		const calls, sets = 200, 20
		done := make(chan error, 1)
		go func() {
			for range calls {
				if err := s.Call(ctx, Increment{1}, nil); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		for n := 0; n < sets; {
			state, version, err := far.Versioned(ctx)
			must(t, err)
			state.Count += 1000
			switch _, err := far.SetState(ctx, version, state); {
			case err == nil:
				n++
			case !errors.Is(err, dserver.ErrChanged):
				t.Fatal(err)
			}
		}
		must(t, <-done)
		if state, err := s.State(ctx); err != nil || state.Count != calls+sets*1000 {
			t.Errorf("%+v, %v", state, err)
		}
	})
}

// Work under a lock applies what it finds to what was set.
func TestAStateIsSetUnderALock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		entered, leave := make(chan struct{}, 1), make(chan struct{})
		def := desks(func(*dserver.LockedContext, Desk, Pay) (string, error) {
			entered <- struct{}{}
			<-leave
			return "ok", nil
		})
		store := newStore(t, def)
		s := def.At(store.Open(), "a")
		must(t, s.Cast(ctx, Pay{How: "card"}))
		run(t, dserver.Consumer{}, store.Open(), def)
		<-entered
		state, version, err := s.Versioned(ctx)
		must(t, err)
		state.Log = append(state.Log, "set")
		_, err = s.SetState(ctx, version, state)
		must(t, err)
		close(leave)
		expectLog(t, s, "set", "paid card")
	})
}

func TestAStateWithTrackedCollectionsIsSet(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s, far := rooms.At(db, "a"), rooms.At(open(), "a")
		start(t, db, rooms)
		for i := range 3 {
			must(t, s.Call(ctx, Say{Who: "ada", Text: fmt.Sprint(i)}, nil))
		}
		state, version, err := far.Versioned(ctx)
		must(t, err)
		state.Topic = "set"
		state.People.Set("bob", 7)
		state.Lines.Append("set")
		_, err = far.SetState(ctx, version, state)
		must(t, err)
		if last, err := dserver.Call(ctx, s, Last{}); err != nil || last != "set" {
			t.Errorf("the last line is %q, %v", last, err)
		}
		if n, err := dserver.Call(ctx, s, Say{Who: "bob", Text: "5"}); err != nil || n != 5 {
			t.Errorf("it has %d lines, %v", n, err)
		}
		now, err := far.State(ctx)
		must(t, err)
		if n, _ := now.People.Get("bob"); n != 8 || now.Topic != "set" || now.People.Len() != 2 {
			t.Errorf("bob has said %d, of %d people, on %q", n, now.People.Len(), now.Topic)
		}
	})
}

func TestAStateIsChangedWithoutItsType(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := ledgers.At(db, "x")
		bare := s.Ref().At(open())
		if _, err := bare.ChangeState(ctx, backend.Versionstamp{}, statediff.Change{Path: []string{"Text"}, Value: "x", Create: true}); !errors.Is(err, dserver.ErrNotFound) {
			t.Errorf("changed what is not there: %v", err)
		}
		start(t, db, ledgers)
		must(t, s.Call(ctx, Note{1}, nil))
		_, version, err := bare.Versioned(ctx)
		must(t, err)
		version, err = bare.ChangeState(ctx, version, statediff.Change{Path: []string{"Text"}, Value: "set", Create: true})
		must(t, err)
		if _, err := bare.ChangeState(ctx, version, statediff.Change{Path: []string{"Started"}, Value: "many"}); !errors.Is(err, statediff.ErrNotKind) {
			t.Errorf("a number became text: %v", err)
		}
		version, err = bare.ChangeState(ctx, version, statediff.Change{Path: []string{"Seen"}, Value: []any{int64(7), int64(8)}})
		must(t, err)
		_, err = bare.ChangeState(ctx, version, statediff.Change{Path: []string{"Started"}, Remove: true})
		must(t, err)
		seen := seenAfter(t, ctx, s)
		state, err := s.State(ctx)
		if err != nil || !slices.Equal(seen, []int{7, 8}) || state.Text != "set" || state.Started != 0 {
			t.Errorf("it has %v, %+v, %v", seen, state, err)
		}
	})
}

func TestEachFaultLeavesASetStateWhole(t *testing.T) {
	eachOperatorFault(t, func(o *operator) {
		ctx := within(o.t)
		s := o.plain()
		stop := run(o.t, dserver.Consumer{}, o.store.Open(), ledgers)
		must(o.t, s.Call(ctx, Note{1}, nil))
		stop()
		state, version, err := s.Versioned(ctx)
		must(o.t, err)
		state.Seen, state.Text = []int{2}, "set"
		o.do("set", func(ctx context.Context, s *dserver.DServer[Ledger]) error {
			_, err := s.SetState(ctx, version, state)
			if errors.Is(err, dserver.ErrChanged) { // it was done
				return nil
			}
			return err
		})
		start(o.t, o.store.Open(), ledgers)
		must(o.t, s.Call(ctx, Note{3}, nil))
		if now, err := s.State(ctx); err != nil || !slices.Equal(now.Seen, []int{2, 3}) || now.Text != "set" {
			o.t.Errorf("%v: %+v, %v", o.f, now, err)
		}
	})
}
