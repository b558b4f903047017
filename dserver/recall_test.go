package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// recallsDB counts what transactions read and push, how many recalled, and how often one ran.
type recallsDB struct {
	backend.Database
	reads, pushes, recalls, runs atomic.Int64
}

func (d *recallsDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	return d.Database.Transact(ctx, func(tx backend.Tx) error {
		d.runs.Add(1)
		return fn(&recallsTx{tx, d})
	})
}

type recallsTx struct {
	backend.Tx
	db *recallsDB
}

func (t *recallsTx) Get(key backend.Key) backend.Future[[]byte] {
	t.db.reads.Add(1)
	return t.Tx.Get(key)
}

func (t *recallsTx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	t.db.reads.Add(1)
	return t.Tx.GetRange(r, o)
}

func (t *recallsTx) Append(prefix backend.Key, value []byte) {
	t.db.pushes.Add(1)
	t.Tx.Append(prefix, value)
}

func (t *recallsTx) Recall(v, since backend.Versionstamp, known ...backend.Range) bool {
	recalled := t.Tx.(backend.Recaller).Recall(v, since, known...)
	if recalled {
		t.db.recalls.Add(1)
	}
	return recalled
}

// recalling is a journal whose consumer recalls, with the first calls behind it.
func recalling(t *testing.T, store *backendtest.Store) (*recallsDB, *dserver.DServer[Journal]) {
	t.Helper()
	db := &recallsDB{Database: store.Open()}
	run(t, dserver.Consumer{}, db, journals)
	synctest.Wait()
	s := journals.At(db, "a")
	for i := range 3 {
		appendLine(t, s, fmt.Sprint("first ", i))
	}
	if db.recalls.Load() == 0 {
		t.Fatal("the third call in a row does not recall")
	}
	return db, s
}

func appendLine(t testing.TB, s *dserver.DServer[Journal], line string) int {
	t.Helper()
	n, err := dserver.Call(context.Background(), s, Append{Line: line})
	must(t, err)
	return n
}

func TestATurnThatRecallsReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, s := recalling(t, newStore(t, journals))
		reads, recalls, runs := db.reads.Load(), db.recalls.Load(), db.runs.Load()
		for i := range 10 {
			if n := appendLine(t, s, "x"); n != 4+i {
				t.Errorf("line %d is number %d", 4+i, n)
			}
		}
		if reads, recalls, runs = db.reads.Load()-reads, db.recalls.Load()-recalls, db.runs.Load()-runs; reads != 0 || recalls != 10 || runs != 10 {
			t.Errorf("ten calls: %d reads, %d recollections in %d runs", reads, recalls, runs)
		}
	})
}

// What is remembered is good as long as nothing happens in the store. Whatever another process does there shows in the
// next call.
func TestWhatAnotherProcessDidIsNotForgotten(t *testing.T) {
	for what, c := range map[string]struct {
		do   func(t *testing.T, store *backendtest.Store, s *dserver.DServer[Journal])
		want []string
	}{
		"a cast": {func(t *testing.T, _ *backendtest.Store, s *dserver.DServer[Journal]) {
			must(t, s.Cast(context.Background(), Write{"other"}))
		}, []string{"first 0", "first 1", "first 2", "other", "mine"}},
		"a priority cast": {func(t *testing.T, _ *backendtest.Store, s *dserver.DServer[Journal]) {
			must(t, s.Cast(context.Background(), Write{"other"}, dserver.Priority()))
		}, []string{"first 0", "first 1", "first 2", "other", "mine"}},
		"a state that is set": {func(t *testing.T, _ *backendtest.Store, s *dserver.DServer[Journal]) {
			state, version, err := s.Versioned(context.Background())
			must(t, err)
			state.Lines = []string{"set"}
			_, err = s.SetState(context.Background(), version, state)
			must(t, err)
		}, []string{"set", "mine"}},
		"a pause and a resume": {func(t *testing.T, _ *backendtest.Store, s *dserver.DServer[Journal]) {
			must(t, s.Pause(context.Background()))
			must(t, s.Cast(context.Background(), Write{"other"}))
			must(t, s.Resume(context.Background()))
		}, []string{"first 0", "first 1", "first 2", "other", "mine"}},
		"a reset": {func(t *testing.T, _ *backendtest.Store, s *dserver.DServer[Journal]) {
			must(t, s.Reset(context.Background()))
		}, []string{"mine"}},
		"a kill": {func(t *testing.T, _ *backendtest.Store, s *dserver.DServer[Journal]) {
			must(t, s.Kill(context.Background()))
		}, []string{"mine"}},
		"a call that runs there": {func(t *testing.T, store *backendtest.Store, _ *dserver.DServer[Journal]) {
			db := store.Open()
			stop := run(t, dserver.Consumer{}, db, journals)
			synctest.Wait()
			appendLine(t, journals.At(db, "a"), "other")
			stop()
		}, []string{"first 0", "first 1", "first 2", "other", "mine"}},
		"three calls that run there": {func(t *testing.T, store *backendtest.Store, _ *dserver.DServer[Journal]) {
			db := store.Open()
			stop := run(t, dserver.Consumer{}, db, journals)
			synctest.Wait()
			for i := range 3 {
				appendLine(t, journals.At(db, "a"), fmt.Sprint("other ", i))
			}
			stop()
		}, []string{"first 0", "first 1", "first 2", "other 0", "other 1", "other 2", "mine"}},
		"a call by a store that does not recall": {func(t *testing.T, store *backendtest.Store, _ *dserver.DServer[Journal]) {
			db := &commitsDB{Database: store.Open()}
			stop := run(t, dserver.Consumer{}, db, journals)
			synctest.Wait()
			appendLine(t, journals.At(db, "a"), "other")
			stop()
		}, []string{"first 0", "first 1", "first 2", "other", "mine"}},
	} {
		for name, mine := range map[string]func(s *dserver.DServer[Journal]) error{
			"cast": func(s *dserver.DServer[Journal]) error { return s.Cast(context.Background(), Write{"mine"}) },
			"call": func(s *dserver.DServer[Journal]) error {
				return s.Call(context.Background(), Append{Line: "mine"}, nil)
			},
		} {
			t.Run(what+" before a "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := newStore(t, journals)
					_, s := recalling(t, store)
					c.do(t, store, journals.At(store.Open(), "a"))
					must(t, mine(s))
					expectLines(t, lines(t, s), c.want...)
				})
			})
		}
		t.Run(what+" before a read", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newStore(t, journals)
				_, s := recalling(t, store)
				c.do(t, store, journals.At(store.Open(), "a"))
				expectLines(t, lines(t, s), c.want[:len(c.want)-1]...)
			})
		})
	}
}

// meanwhileDB runs a function once, after fn and before the commit.
type meanwhileDB struct {
	*recallsDB
	meanwhile func()
}

func (d *meanwhileDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	return d.recallsDB.Transact(ctx, func(tx backend.Tx) error {
		err := fn(tx)
		if f := d.meanwhile; f != nil {
			d.meanwhile = nil
			f()
		}
		return err
	})
}

// What is recalled was proved by the turn before: a push beside that turn is no part of what it read.
func TestAPushBesideAnyTurnComesBeforeTheNextCall(t *testing.T) {
	for before := range 4 { // calls: none, the first writes the owner record, the second proves, the third recalls
		synctest.Test(t, func(t *testing.T) {
			store := newStore(t, journals)
			db := &meanwhileDB{recallsDB: &recallsDB{Database: store.Open()}}
			run(t, dserver.Consumer{}, db, journals)
			synctest.Wait()
			s, there := journals.At(db, "a"), journals.At(store.Open(), "a")
			for range before {
				appendLine(t, s, "before")
			}
			db.meanwhile = func() { must(t, there.Cast(context.Background(), Write{"pushed"})) }
			appendLine(t, s, "beside")
			appendLine(t, s, "after")
			got := lines(t, s)
			if slices.Index(got, "pushed") > slices.Index(got, "after") || len(got) != before+3 {
				t.Errorf("%d calls before: %q", before, got)
			}
		})
	}
}

// deafDB is a store whose watches never fire: what others send is found at the next look.
type deafDB struct{ *meanwhileDB }

func (d deafDB) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	return d.meanwhileDB.Read(ctx, func(tx backend.ReadTx) error { return fn(deafTx{tx}) })
}

type deafTx struct{ backend.ReadTx }

func (t deafTx) Watch(backend.Key) backend.Watch { return t.ReadTx.Watch(backend.NewKey("nothing")) }

// After a recollection that failed, turns prove nothing for a while. So what one of them leaves is not recalled either:
// a push beside it may be there.
func TestAPushBesideATurnThatProvesNothingComesBeforeTheNextCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals)
		db := deafDB{&meanwhileDB{recallsDB: &recallsDB{Database: store.Open()}}}
		run(t, dserver.Consumer{}, db, journals)
		synctest.Wait()
		s, there := journals.At(db, "a"), journals.At(store.Open(), "a")
		push := func(line string) { must(t, there.Cast(context.Background(), Write{line})) }
		for range 3 {
			appendLine(t, s, "before")
		}
		push("doubt")
		appendLine(t, s, "doubted")
		db.meanwhile = func() { push("pushed") }
		appendLine(t, s, "beside")
		<-time.After(time.Second)
		appendLine(t, s, "after")
		expectLines(t, lines(t, s), "before", "before", "before", "doubt", "doubted", "beside", "pushed", "after")
	})
}

// A push beside a turn is no conflict, but where the turn proves that there is none: not in the first turn of a consumer,
// nor in one of a server that others send to.
func TestAPushBesideATurnOfABusyServerIsNoConflict(t *testing.T) {
	for _, busy := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ran := 0
			types := journals.With(dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Mark) error {
				ran++
				j.write(m.Line)
				return nil
			}))
			store := newStore(t, types)
			db := &meanwhileDB{recallsDB: &recallsDB{Database: store.Open()}}
			run(t, dserver.Consumer{}, db, types)
			synctest.Wait()
			s, there := types.At(db, "a"), types.At(store.Open(), "a")
			push := func() { must(t, there.Cast(context.Background(), Write{"pushed"})) }
			if busy {
				for range 3 {
					appendLine(t, s, "before")
				}
				push()
				synctest.Wait()
			}
			db.meanwhile = push
			must(t, s.Call(context.Background(), Mark{"beside"}, nil))
			if ran != 1 {
				t.Errorf("busy %v: the handler ran %d times", busy, ran)
			}
		})
	}
}

// A call that lost a race to another process takes the queue's way, where both see it: else two that have callers of
// their own could abort each other for ever.
func TestACallThatLostARaceIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals)
		db := &meanwhileDB{recallsDB: &recallsDB{Database: store.Open()}}
		there := store.Open()
		for _, db := range []backend.Database{db, there} {
			run(t, dserver.Consumer{}, db, journals)
		}
		synctest.Wait()
		s := journals.At(db, "a")
		appendLine(t, s, "before")
		before := db.pushes.Load()
		db.meanwhile = func() { appendLine(t, journals.At(there, "a"), "there") }
		appendLine(t, s, "here")
		if n := db.pushes.Load() - before; n != 1 {
			t.Errorf("it was pushed %d times", n)
		}
		expectLines(t, lines(t, s), "before", "there", "here")
	})
}

// What is old is not recalled, as the store may not know any more what came after it; nor is anything for a while after
// a recollection that failed.
func TestRecollectionsAreRecentAndRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals)
		db, s := recalling(t, store)
		expect := func(what string, calls int, want int64) {
			t.Helper()
			before := db.recalls.Load()
			for range calls {
				appendLine(t, s, what)
			}
			if n := db.recalls.Load() - before; n != want {
				t.Errorf("%s: %d of %d calls recall, and not %d", what, n, calls, want)
			}
		}
		<-time.After(4 * time.Second)
		expect("after a while", 3, 2)
		there := store.Open()
		stop := run(t, dserver.Consumer{}, there, journals)
		synctest.Wait()
		appendLine(t, journals.At(there, "a"), "there")
		stop()
		expect("after another's turn", 6, 1)
		<-time.After(time.Second)
		expect("after the rest", 6, 4)
	})
}

// Two processes that both recall one server, and a third that sends to it.
func TestConsumersThatRecallLoseNothing(t *testing.T) {
	random := seeded(t)
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals)
		slow := newLag(random, time.Millisecond)
		var recalls []*recallsDB
		var wg sync.WaitGroup
		want := map[string]int{}
		for i := range 2 {
			db := &recallsDB{Database: store.Open()}
			recalls = append(recalls, db)
			lagging := slow.on(db)
			run(t, dserver.Consumer{}, lagging, journals)
			synctest.Wait()
			wait := newLag(random, time.Duration(1+i)*50*time.Millisecond)
			for j := range 4 {
				for k := range 60 {
					want[fmt.Sprint(i, " ", j, " ", k)] = 1
				}
				wg.Go(func() {
					for k := range 60 {
						appendLine(t, journals.At(lagging, "a"), fmt.Sprint(i, " ", j, " ", k))
						wait.pause()
					}
				})
			}
		}
		for k := range 20 {
			want[fmt.Sprint("other ", k)] = 1
		}
		wg.Go(func() {
			s, wait := journals.At(store.Open(), "a"), newLag(random, time.Second)
			for k := range 20 {
				must(t, s.Cast(context.Background(), Write{fmt.Sprint("other ", k)}))
				wait.pause()
			}
		})
		wg.Wait()
		s, err := journals.At(store.Open(), "a").State(context.Background())
		must(t, err)
		for len(s.Lines) < len(want) { // the casts of the third
			<-time.After(time.Second)
			s, err = journals.At(store.Open(), "a").State(context.Background())
			must(t, err)
		}
		for line := range want {
			if s.Seen[line] != 1 {
				t.Errorf("%q is there %d times", line, s.Seen[line])
			}
		}
		if len(s.Lines) != len(want) {
			t.Errorf("%d lines of %d", len(s.Lines), len(want))
		}
		for i, db := range recalls { // mostly they recalled a hundred times until now, and not always
			before := db.recalls.Load()
			for range 5 {
				<-time.After(100 * time.Millisecond)
				appendLine(t, journals.At(slow.on(db), "a"), "end")
			}
			if db.recalls.Load() == before {
				t.Errorf("process %d does not recall", i)
			}
		}
	})
}

func TestEachFaultOverTurnsThatRecall(t *testing.T) {
	backendtest.EachFault(t, func(t *testing.T, f *backendtest.Fault) {
		synctest.Test(t, func(t *testing.T) {
			db := f.Open()
			run(t, dserver.Consumer{}, db, journals)
			synctest.Wait()
			acknowledged := 0
			for i := range 8 {
				if err := journals.At(db, "a").Call(f.Context(), Append{Line: fmt.Sprint(i)}, nil); err == nil {
					acknowledged++
				} else if f.Crashed() {
					break
				}
			}
			<-time.After(time.Second)
			s, err := journals.At(f.Open(), "a").State(context.Background())
			if !errors.Is(err, dserver.ErrNotFound) {
				must(t, err)
			}
			unknown := 0
			if f.Reached() {
				unknown = 1
			}
			if n := len(s.Lines); n < acknowledged || n > acknowledged+unknown {
				t.Errorf("%v: %d lines of %d calls that were acknowledged", f, n, acknowledged)
			}
			for line, n := range s.Seen {
				if n != 1 {
					t.Errorf("%v: %q is there %d times", f, line, n)
				}
			}
			if len(s.Seen) != len(s.Lines) { // one was committed, and then written over from memory
				t.Errorf("%v: of %d lines %d are left", f, len(s.Seen), len(s.Lines))
			}
		})
	})
}
