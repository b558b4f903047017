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
)

// A key that is used again after a kill is kept for a day from then on: the row that would have ended the old server's
// is not its row.
func TestKeyOfAKilledServerDoesNotEndThatOfTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := safes(easyToil)
		db := newStore(t, types).Open()
		s, ctx := safe.At(db, "a"), context.Background()
		must(t, s.Cast(ctx, Stow{"old"}, dserver.Once("k")))
		pass(t, 12*time.Hour, db, types)
		must(t, s.Kill(ctx))
		must(t, s.Cast(ctx, Stow{"new"}, dserver.Once("k")))
		pass(t, 13*time.Hour, db, types) // the old key's day is over
		must(t, s.Cast(ctx, Stow{"new"}, dserver.Once("k")))
		pass(t, time.Minute, db, types)
		expectSeen(t, s, "new")
	})
}

// halting is a journal that has halted, until it is told to go on. It has no consumer.
func halting(t *testing.T) (db backend.Database, types *dserver.Definition[Journal], goOn func()) {
	blocks := true
	types = journals.With(
		dserver.Settings[Journal]{MaxAttempts: 1, Halt: true},
		dserver.HandleCast(func(*dserver.Context, *Journal, Mark) error {
			if blocks {
				panic("it halts")
			}
			return nil
		}))
	db = newStore(t, types).Open()
	s := types.At(db, "a")
	must(t, s.Cast(t.Context(), Mark{}))
	pass(t, time.Minute, db, types)
	if !statusOf(t, s).Halted {
		t.Fatal("it does not halt")
	}
	return db, types, func() {
		blocks = false
		must(t, s.Resume(t.Context()))
	}
}

// A message that waits for longer than a day keeps its key: sent again, it is not handled again, and a call gets its
// outcome.
func TestKeyIsKeptWhileItsMessageWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, types, goOn := halting(t)
		s, ctx := types.At(db, "a"), context.Background()
		answers := make(chan string, 2)
		call := func() {
			n, err := dserver.Call(ctx, s, Append{Line: "once"}, dserver.Once("k"))
			answers <- fmt.Sprint(n, err)
		}
		go call()
		pass(t, 25*time.Hour, db, types) // it waits
		go call()
		<-time.After(time.Hour)
		goOn()
		pass(t, time.Minute, db, types)
		for range 2 {
			if got := <-answers; got != "1 <nil>" {
				t.Errorf("a call got %s", got)
			}
		}
		state, err := s.State(ctx)
		must(t, err)
		expectLines(t, state.Lines, "once")
	})
}

// The outcome of a message that waited for longer than a day has a time of its own.
func TestOutcomeOfAMessageThatWaitedIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, types, goOn := halting(t)
		s, ctx := types.At(db, "a"), context.Background()
		must(t, s.Cast(ctx, Write{"once"}, dserver.Once("k")))
		pass(t, 25*time.Hour, db, types) // its time is up, and it waits
		goOn()
		pass(t, 23*time.Hour, db, types) // it was handled a short while before its time was up again
		pass(t, 2*time.Hour, db, types)
		pass(t, 22*time.Hour, db, types) // three days since it was sent
		must(t, s.Cast(ctx, Write{"once"}, dserver.Once("k")))
		pass(t, time.Minute, db, types)
		state, err := s.State(ctx)
		must(t, err)
		expectLines(t, state.Lines, "once")
		pass(t, 3*time.Hour, db, types)
		if n := rows(t, db, "s", "journal", "a", "e"); n != 0 {
			t.Errorf("%d records of keys are left", n)
		}
	})
}

// A message that is set aside is the outcome of its key: who waits for it is told, and who sends it again.
func TestMessageThatIsSetAsideIsTheOutcomeOfItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := journals.With(dserver.Settings[Journal]{MaxAttempts: 2})
		db := newStore(t, types).Open()
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		call := func() error { return journal.At(db, "a").Call(ctx, Burn{}, nil, dserver.Once("k")) }
		answers := make(chan error, 2)
		for range cap(answers) {
			go func() { answers <- call() }()
		}
		synctest.Wait()
		run(t, dserver.Consumer{}, db, types)
		for _, err := range []error{<-answers, <-answers, call()} {
			if !errors.Is(err, dserver.ErrFault) {
				t.Errorf("it is told %v", err)
			}
		}
		if n := deadLetters(t, types.At(db, "a")); n != 1 {
			t.Errorf("%d dead letters", n)
		}
	})
}

// A key whose record is damaged stops no message. The outcome replaces it.
func TestDamagedKeyStopsNoMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, ctx := newStore(t, journals).Open(), context.Background()
		s := journals.At(db, "a")
		once := func() { must(t, s.Cast(ctx, Write{"once"}, dserver.Once("k"))) }
		once()
		must(t, db.Transact(ctx, func(tx backend.Tx) error {
			tx.Set(backend.NewKey("s", "journal", "a", "e", "k"), []byte{0xff})
			return nil
		}))
		run(t, dserver.Consumer{}, db, journals)
		eventually(t, "it is handled", func() bool { return statusOf(t, s).Queued == 0 })
		once()
		expectLines(t, lines(t, s), "once")
	})
}

// A call that is kept open does not wait any more, so that its key ends, answered or not.
func TestKeyOfACallThatIsNeverAnsweredEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := desks(noWork)
		db := newStore(t, def).Open()
		stop := run(t, dserver.Consumer{}, db, def)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := dserver.Call(ctx, def.At(db, "a"), Ask{}, dserver.Once("k")); err == nil {
			t.Error("somebody answered")
		}
		stop()
		if n := rows(t, db, "s", "desk", "a", "e"); n != 1 {
			t.Errorf("%d records of keys", n)
		}
		pass(t, 25*time.Hour, db, def)
		left := func() int { return rows(t, db, "s", "desk", "a", "e") + rows(t, db, "t") }
		if n := left(); n != 0 {
			t.Errorf("%d rows of keys are left", n)
		}
		run(t, dserver.Consumer{}, db, def)
		must(t, def.At(db, "a").Call(context.Background(), Tell{"late"}, nil))
		if n := left(); n != 0 {
			t.Errorf("an answer that comes later leaves %d rows of keys", n)
		}
	})
}

// readsDB notes when reads of idempotency keys begin and when they are waited for.
type readsDB struct {
	backend.Database
	notes []string // of the last transaction that read keys
}

func (d *readsDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	tx := &readsTx{}
	err := d.Database.Transact(ctx, func(inner backend.Tx) error {
		*tx = readsTx{Tx: inner}
		return fn(tx)
	})
	if len(tx.notes) > 0 {
		d.notes = tx.notes
	}
	return err
}

type readsTx struct {
	backend.Tx
	notes []string
}

func (t *readsTx) isOnce(key backend.Key) bool {
	elements, err := key.Elements()
	return err == nil && len(elements) == 5 && elements[0] == "s" && elements[3] == "e"
}

func (t *readsTx) Get(key backend.Key) backend.Future[[]byte] {
	return noted(t, key, t.Tx.Get(key))
}

func (t *readsTx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	return noted(t, r.Begin, t.Tx.GetRange(r, o))
}

func noted[T any](t *readsTx, key backend.Key, read backend.Future[T]) backend.Future[T] {
	if !t.isOnce(key) {
		return read
	}
	t.notes = append(t.notes, "begin")
	return backend.Later(func() (T, error) {
		t.notes = append(t.notes, "wait")
		return read.Get()
	})
}

// A turn reads the keys of its messages together: across a network that is one round trip, not one for each.
func TestKeysOfATurnAreReadTogether(t *testing.T) {
	const count = 5
	synctest.Test(t, func(t *testing.T) {
		types := safes(easyToil)
		store := newStore(t, types)
		db := &readsDB{Database: store.Open()}
		ctx := context.Background()
		for i := range count {
			must(t, safe.At(store.Open(), "a").Cast(ctx, Stow{fmt.Sprint(i)}, dserver.Once(fmt.Sprint(i))))
		}
		stop := run(t, dserver.Consumer{}, db, types)
		synctest.Wait()
		stop()
		want := slices.Concat(slices.Repeat([]string{"begin"}, count), slices.Repeat([]string{"wait"}, count))
		if !slices.Equal(db.notes, want) {
			t.Errorf("the reads were %q", db.notes)
		}
		expectSeen(t, safe.At(store.Open(), "a"), numbered("", count)...)
	})
}
