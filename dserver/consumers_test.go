package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

func consumersOf(t testing.TB, db backend.Database) (all []dserver.Presence) {
	t.Helper()
	for p, err := range dserver.Consumers(within(t), db) {
		must(t, err)
		all = append(all, p)
	}
	return all
}

// recordKey is where a process tells of itself.
func recordKey(process string) backend.Key { return backend.NewKey("p", process, "r") }

func isRecord(key backend.Key) bool {
	elements, err := key.Elements()
	return err == nil && len(elements) == 3 && elements[0] == "p" && elements[2] == "r"
}

// rewritten is a record with other fields.
func rewritten(record []byte, change func(fields map[string]any)) []byte {
	var fields map[string]any
	if err := cbor.Unmarshal(record, &fields); err != nil {
		panic(err)
	}
	change(fields)
	record, err := cbor.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return record
}

// recordsDB is a store that changes the records of processes on their way.
type recordsDB struct {
	backend.Database
	written func(fields map[string]any) // nil: they are left
	read    func(fields map[string]any)
	slow    time.Duration // before the commit of a record
	waits   time.Duration // before a read has its snapshot
}

func (d *recordsDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	return d.Database.Transact(ctx, func(tx backend.Tx) error {
		r := &recordsTx{Tx: tx, db: d}
		err := fn(r)
		if r.wrote && d.slow > 0 {
			<-time.After(d.slow)
		}
		return err
	})
}

func (d *recordsDB) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	if d.waits > 0 {
		<-time.After(d.waits)
	}
	return d.Database.Read(ctx, func(tx backend.ReadTx) error { return fn(recordsReadTx{tx, d}) })
}

type recordsTx struct {
	backend.Tx
	db    *recordsDB
	wrote bool
}

func (t *recordsTx) Set(key backend.Key, value []byte) {
	if isRecord(key) {
		if t.wrote = true; t.db.written != nil {
			value = rewritten(value, t.db.written)
		}
	}
	t.Tx.Set(key, value)
}

type recordsReadTx struct {
	backend.ReadTx
	db *recordsDB
}

func (t recordsReadTx) Get(key backend.Key) backend.Future[[]byte] {
	found := t.ReadTx.Get(key)
	if t.db.read == nil || !isRecord(key) {
		return found
	}
	return backend.Later(func() ([]byte, error) {
		record, err := found.Get()
		if record != nil {
			record = rewritten(record, t.db.read)
		}
		return record, err
	})
}

// Who consumes is listed with who it is, from when it begins until it stops. Who only sends is not.
func TestConsumersAreListedWithWhoTheyAre(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		reader, sender := open(), open()
		if all := consumersOf(t, reader); len(all) > 0 {
			t.Errorf("nobody runs, and there are %+v", all)
		}
		began := time.Now().Truncate(time.Millisecond)
		stop := run(t, dserver.Consumer{}, open(), journals, ledgers)
		run(t, dserver.Consumer{}, open(), counters)
		must(t, journals.At(sender, "a").Call(within(t), Append{}, nil)) // which writes a record
		eventually(t, "two consumers are listed", func() bool { return len(consumersOf(t, reader)) == 2 })
		all, now := consumersOf(t, reader), time.Now()
		slices.SortFunc(all, func(a, b dserver.Presence) int { return len(b.Types) - len(a.Types) })
		host, err := os.Hostname()
		must(t, err)
		for i, types := range [][]string{{"journal", "ledger"}, {"counter"}} {
			p := all[i]
			if p.Host != host || p.PID != os.Getpid() || !slices.Equal(p.Types, types) || len(p.Process) != 26 || p.Version == "" ||
				p.Unreadable != "" || p.Alive || p.Dead || p.Ahead != 0 {
				t.Errorf("it is %+v", p)
			}
			for _, at := range []time.Time{p.Since, p.Beat} {
				if at.Before(began) || at.After(now) {
					t.Errorf("%+v is not between %v and %v", p, began, now)
				}
			}
		}
		for range dserver.Consumers(within(t), reader) {
			break
		}
		stop()
		if all := consumersOf(t, reader); len(all) != 1 || !slices.Equal(all[0].Types, []string{"counter"}) {
			t.Errorf("one stopped, and there are %+v", all)
		}
	})
}

// What a process has in hand is the sum over its consumers, as of its beat, which each of them makes when it begins.
func TestConsumersTellWhatTheyHaveInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkshop()
		goOn := make(chan struct{})
		slow := journal.With(dserver.HandleCast(func(*dserver.Context, *Journal, Write) error { <-goOn; return nil }))
		store := newStore(t, journal, safe)
		db, reader := store.Open(), store.Open()
		run(t, dserver.Consumer{Turns: 3}, db, slow)
		run(t, dserver.Consumer{}, db, w.types)
		<-time.After(time.Second) // they have told that nothing is in hand
		for i := range 8 {
			must(t, journal.At(reader, fmt.Sprint(i)).Cast(t.Context(), Write{}))
		}
		toil(w.types.At(reader, "a"), w)
		expect := func(when string, turns, waiting, work int, types ...string) {
			t.Helper()
			synctest.Wait()
			all := consumersOf(t, reader)
			if len(all) != 1 {
				t.Fatalf("%s: there are %+v", when, all)
			}
			p := all[0]
			if p.Turns != turns || p.Waiting != waiting || p.Work != work || !slices.Equal(p.Types, types) {
				t.Errorf("%s: %+v", when, p)
			}
		}
		expect("before the next beat", 0, 0, 0, "journal", "safe")
		stop := run(t, dserver.Consumer{}, db, counters)
		expect("a consumer began", 3, 5, 1, "counter", "journal", "safe")
		close(goOn)
		w.find <- "found"
		<-time.After(time.Second)
		stop()
		expect("one stopped", 0, 0, 0, "journal", "safe")
	})
}

// A process that stops to consume and begins again consumes since then.
func TestConsumersSinceIsOfTheFirstThatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals)
		db, reader := store.Open(), store.Open()
		since := func() time.Time {
			synctest.Wait()
			all := consumersOf(t, reader)
			if len(all) != 1 {
				t.Fatalf("there are %+v", all)
			}
			return all[0].Since
		}
		began := time.Now()
		first := run(t, dserver.Consumer{}, db, journals)
		<-time.After(time.Minute)
		second := run(t, dserver.Consumer{}, db, counters)
		<-time.After(time.Minute)
		first()
		if got := since(); !got.Equal(began) {
			t.Errorf("it consumes since %v, and says %v", began, got)
		}
		second()
		<-time.After(time.Minute)
		began = time.Now()
		run(t, dserver.Consumer{}, db, journals)
		if got := since(); !got.Equal(began) {
			t.Errorf("it began anew at %v, and says %v", began, got)
		}
	})
}

// A process that dies stays listed until it is swept. Who runs a consumer has seen by then that it is dead; who does not
// pretends nothing.
func TestConsumersThatDieAreToldByWhoHasWatchedThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals, counters)
		victim, watcher, reader := store.Open(), store.Open(), store.Open()
		stop := run(t, dserver.Consumer{}, victim, journals)
		run(t, dserver.Consumer{}, watcher, counters)
		expect := func(when string, alive, dead bool) {
			t.Helper()
			for _, p := range consumersOf(t, watcher) {
				if p.Types[0] == "counter" && (!p.Alive || p.Dead) {
					t.Errorf("%s: of itself it says %+v", when, p)
				}
				if p.Types[0] == "journal" && (p.Alive != alive || p.Dead != dead) {
					t.Errorf("%s: %+v", when, p)
				}
			}
			for _, p := range consumersOf(t, reader) {
				if p.Alive || p.Dead {
					t.Errorf("%s: who has not watched says %+v", when, p)
				}
			}
			if n := len(consumersOf(t, reader)); n != 2 {
				t.Errorf("%s: %d are listed", when, n)
			}
		}
		synctest.Wait()
		expect("at first", false, false)
		<-time.After(time.Minute)
		expect("after some looks", true, false)
		stopNow(t, victim, stop)
		expect("as it dies", true, false)
		<-time.After(time.Minute)
		expect("when it is dead", false, true)
		<-time.After(11 * time.Minute)
		if all := consumersOf(t, reader); len(all) != 1 || all[0].Types[0] != "counter" {
			t.Errorf("when it was swept, there are %+v", all)
		}
	})
}

// What a process has handled is told with its beats, by type: messages of the queue and those that join a turn, however many a
// turn takes and whatever becomes of them.
func TestConsumersTellWhatTheyHaveHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newStore(t, counters, ledgers), context.Background()
		db := store.Open()
		waits := counters.At(db, "waits")
		for range 300 { // of several turns
			must(t, waits.Cast(ctx, Increment{By: 1}))
		}
		start(t, db, counters, ledgers)
		for range 10 {
			must(t, counters.At(db, "a").Call(ctx, Increment{By: 1}, nil))
		}
		must(t, ledgers.At(db, "b").Cast(ctx, Note{1}))
		<-time.After(time.Minute) // beats
		all := consumersOf(t, store.Open())
		if len(all) != 1 || all[0].Handled["counter"] != 310 || all[0].Handled["ledger"] != 1 || len(all[0].Handled) != 2 {
			t.Errorf("there are %+v", all)
		}
	})
}

// A program of before writes records without the new fields, and passes them over in those of others. Both handle
// messages, and the list has both.
func TestConsumersOfAnOlderVersionAreListed(t *testing.T) {
	t.Parallel()
	news := []string{"since", "version", "turns", "waiting", "work", "handled"}
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		var seen atomic.Int32
		older := &recordsDB{
			Database: open(),
			written: func(fields map[string]any) {
				for _, name := range news {
					delete(fields, name)
				}
			},
			read: func(fields map[string]any) {
				if fields["since"] != nil && fields["version"] != nil {
					seen.Add(1)
				}
			},
		}
		db := open()
		run(t, dserver.Consumer{}, db, journals)
		eventually(t, "the new one is listed", func() bool { return len(consumersOf(t, db)) == 1 })
		run(t, dserver.Consumer{}, older, counters)
		eventually(t, "both are listed", func() bool { return len(consumersOf(t, db)) == 2 })
		for _, p := range consumersOf(t, db) {
			isOld := p.Types[0] == "counter"
			if p.Since.IsZero() != isOld || (p.Version == "") != isOld || p.Beat.IsZero() || p.PID != os.Getpid() || p.Unreadable != "" {
				t.Errorf("old %v: %+v", isOld, p)
			}
		}
		for i := range 10 {
			must(t, journals.At(older, fmt.Sprint(i)).Call(within(t), Append{Line: "x"}, nil))
			must(t, counters.At(db, fmt.Sprint(i)).Cast(within(t), Increment{}))
		}
		eventually(t, "the old one has read a record of the new one", func() bool { return seen.Load() > 0 })
	})
}

// One record that cannot be read hides no other.
func TestConsumersListsWhatItCannotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := backendtest.NewStore()
		db := store.Open()
		must(t, db.Transact(t.Context(), func(tx backend.Tx) error {
			tx.Set(recordKey("0"), []byte{0xff})
			tx.Add(backend.NewKey("p", "1", "b"), 1) // its record was removed
			return nil
		}))
		run(t, dserver.Consumer{Logger: zerolog.Nop()}, store.Open(), journals)
		synctest.Wait()
		all := consumersOf(t, db)
		if len(all) != 2 || all[0].Process != "0" || !strings.Contains(all[0].Unreadable, backend.ErrCorrupt.Error()) || !all[0].Beat.IsZero() ||
			all[1].Unreadable != "" || len(all[1].Types) != 1 {
			t.Errorf("there are %+v", all)
		}
	})
}

// The list is read page by page.
func TestConsumersAreListedPageByPage(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db := open()
		const n = 600
		clear := func(tx backend.Tx) error { tx.Clear(backend.NewKey("p").Below()); return nil }
		t.Cleanup(func() { must(t, db.Transact(context.Background(), clear)) })
		for page := range 6 {
			must(t, db.Transact(t.Context(), func(tx backend.Tx) error {
				for i := range n / 6 {
					tx.Set(recordKey(fmt.Sprintf("%03d", page*n/6+i)), puppetRecord("host", page*n/6+i, time.Now()))
				}
				return nil
			}))
		}
		all := consumersOf(t, db)
		for i, p := range all {
			if p.PID != i || p.Process != fmt.Sprintf("%03d", i) {
				t.Fatalf("%d is %+v", i, p)
			}
		}
		if len(all) != n {
			t.Errorf("%d of %d are listed", len(all), n)
		}
	})
}

func puppetRecord(host string, pid int, beat time.Time) []byte {
	record, err := cbor.Marshal(map[string]any{"host": host, "pid": pid, "beat": beat.UnixMilli(), "consumes": true, "types": []string{"t"}})
	if err != nil {
		panic(err)
	}
	return record
}

func TestConsumersEndsWithAnError(t *testing.T) {
	db := backendtest.NewModel()
	if err := firstError(dserver.Consumers(new(dserver.Context).Context(), db)); err == nil || !strings.Contains(err.Error(), "Consumers in a handler") {
		t.Errorf("in a handler: %v", err)
	}
	must(t, db.Close())
	n := 0
	for p, err := range dserver.Consumers(t.Context(), db) {
		if n++; !errors.Is(err, backend.ErrClosed) || p.Process != "" {
			t.Errorf("%+v, %v", p, err)
		}
	}
	if n != 1 {
		t.Errorf("%d errors", n)
	}
}

const differs = "the clock of another process differs from this one's"

// tellsOf returns how far ahead a log says that other clocks are.
func (l *logged) tellsOf() (ahead []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if line["message"] != differs {
			continue
		}
		d, err := time.ParseDuration(fmt.Sprint(line["ahead"]))
		if err != nil || line["level"] != "warn" || len(fmt.Sprint(line["process"])) != 26 || line["host"] == "" || line["pid"] == nil {
			l.t.Errorf("a line is %v", line)
		}
		ahead = append(ahead, d)
	}
	return ahead
}

// skewed is a store as a process uses it whose clock is ahead.
func skewed(db backend.Database, ahead *atomic.Int64) *recordsDB {
	shift := func(sign int64) func(fields map[string]any) {
		return func(fields map[string]any) {
			beat, _ := fields["beat"].(uint64)
			fields["beat"] = beat + uint64(sign*time.Duration(ahead.Load()).Milliseconds())
		}
	}
	return &recordsDB{Database: db, written: shift(1), read: shift(-1)}
}

// A difference beyond a second is told, once, by the one that is behind, and beyond several by both. None is told that is
// not there.
// clocksRun is how long clocks are compared: a difference of little more than a second is told within half an hour.
func clocksRun() time.Duration {
	if isLong() {
		return 2 * time.Hour
	}
	return 45 * time.Minute
}

func TestClocksThatDifferAreToldOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ahead       time.Duration
		here, there bool // who tells
	}{
		{0, false, false},
		{900 * time.Millisecond, false, false},
		{-900 * time.Millisecond, false, false},
		{1500 * time.Millisecond, true, false},
		{-3 * time.Second, false, true},
		{7500 * time.Millisecond, true, true},
		{-time.Minute, true, true},
		{100 * time.Hour, true, true},
	} {
		t.Run(c.ahead.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newStore(t, journals)
				var ahead atomic.Int64
				ahead.Store(int64(c.ahead))
				db, other := store.Open(), skewed(store.Open(), &ahead)
				log, otherLog := &logged{t: t}, &logged{t: t}
				run(t, dserver.Consumer{Logger: log.logger()}, db, journals)
				run(t, dserver.Consumer{Logger: otherLog.logger()}, other, journals)
				<-time.After(clocksRun())
				expectTold(t, "here", log, c.here, c.ahead)
				expectTold(t, "there", otherLog, c.there, -c.ahead)
				expectAhead(t, db, c.ahead, c.here)
				expectAhead(t, other, -c.ahead, c.there)
			})
		})
	}
}

// isPart reports whether something is not more than all, in the same direction.
func isPart(d, all time.Duration) bool { return min(all, 0) <= d && d <= max(all, 0) }

func expectTold(t *testing.T, where string, log *logged, tells bool, ahead time.Duration) {
	t.Helper()
	told := log.tellsOf()
	if len(told) > 1 || tells != (len(told) == 1) {
		t.Errorf("%s: %v is told, and it is %v", where, told, ahead)
	}
	for _, d := range told {
		if !isPart(d, ahead) || d.Abs() <= time.Second {
			t.Errorf("%s: %v is told, and it is %v", where, d, ahead)
		}
	}
}

// expectAhead reads the list in one of two processes: of itself it knows no difference.
func expectAhead(t *testing.T, db backend.Database, ahead time.Duration, tells bool) {
	t.Helper()
	var differ []time.Duration
	for _, p := range consumersOf(t, db) {
		if p.Ahead != 0 {
			differ = append(differ, p.Ahead)
		}
	}
	certain := tells && ahead.Abs() > 5*time.Second // of less, the last beats may tell less than a second
	if len(differ) > 1 || certain && len(differ) != 1 || len(differ) == 1 && (!isPart(differ[0], ahead) || certain && differ[0].Abs() <= time.Second) {
		t.Errorf("it is %v ahead, and said to be %v", ahead, differ)
	}
}

// Nothing but a clock that differs looks like one.
func TestClocksThatAgreeAreNotToldOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		slow    time.Duration
		waits   time.Duration
		written func(beats int, fields map[string]any) // the record of another process
		put     []time.Duration                        // records that stand there, of processes that are gone
	}{
		"each commit is slow":  {slow: 4900 * time.Millisecond},
		"each read is slow":    {waits: 3 * time.Second},
		"records that are old": {put: []time.Duration{-20 * time.Hour, -time.Minute, -3 * time.Second, 3 * time.Second, time.Hour}},
		"a beat was frozen before its commit": {written: func(beats int, fields map[string]any) {
			if beats%200 == 100 {
				fields["beat"] = fields["beat"].(uint64) - uint64((10 * time.Second).Milliseconds())
			}
		}},
		"its clock jumped for a moment": {written: func(beats int, fields map[string]any) {
			if beats%200 == 100 {
				fields["beat"] = fields["beat"].(uint64) + uint64((3 * time.Second).Milliseconds())
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newStore(t, journals)
				beats := 0
				other := &recordsDB{Database: store.Open(), slow: c.slow, waits: c.waits}
				if c.written != nil {
					other.written = func(fields map[string]any) { beats++; c.written(beats, fields) }
				}
				must(t, store.Open().Transact(t.Context(), func(tx backend.Tx) error {
					for i, d := range c.put {
						tx.Set(recordKey(fmt.Sprint("gone", i)), puppetRecord("gone", i, time.Now().Add(d)))
					}
					return nil
				}))
				db, log, otherLog := store.Open(), &logged{t: t}, &logged{t: t}
				run(t, dserver.Consumer{Logger: log.logger()}, db, journals)
				run(t, dserver.Consumer{Logger: log.logger()}, db, counters) // a second one, which looks as well
				run(t, dserver.Consumer{Logger: otherLog.logger()}, other, journals)
				<-time.After(clocksRun())
				if told := append(log.tellsOf(), otherLog.tellsOf()...); len(told) > 0 {
					t.Errorf("it told of %v", told)
				}
				for _, p := range consumersOf(t, db) {
					if p.Ahead != 0 {
						t.Errorf("%+v", p)
					}
				}
			})
		})
	}
}

// When a clock was put right, whether in one step or by and by, it is not said to differ for ever.
func TestAClockThatWasPutRightIsToldOfNoMore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ ahead, step, after time.Duration }{
		{4 * time.Second, time.Minute, time.Hour},
		{4 * time.Second, 8 * time.Millisecond, time.Hour}, // in 10 seconds
		{time.Minute, time.Minute, time.Minute},            // which contradicts what was seen
	} {
		synctest.Test(t, func(t *testing.T) {
			store := newStore(t, journals)
			var ahead atomic.Int64
			ahead.Store(int64(c.ahead))
			db, other := store.Open(), skewed(store.Open(), &ahead)
			log := &logged{t: t}
			run(t, dserver.Consumer{Logger: log.logger()}, db, journals)
			run(t, dserver.Consumer{}, other, journals)
			aheadOf := func() (d time.Duration) {
				for _, p := range consumersOf(t, db) {
					d += p.Ahead
				}
				return d
			}
			for n := 0; n < 24 && aheadOf() <= time.Second; n++ { // beats and looks may be out of step for an hour or two
				<-time.After(time.Hour)
			}
			if d := aheadOf(); d <= time.Second || d > c.ahead {
				t.Errorf("it is %v ahead", d)
			}
			for ahead.Load() > 0 {
				<-time.After(10 * time.Second)
				ahead.Store(max(0, ahead.Load()-int64(c.step)))
				if d, is := aheadOf(), time.Duration(ahead.Load()); c.step < time.Second && d > is+1200*time.Millisecond {
					t.Fatalf("it is %v ahead, and said to be %v", is, d)
				}
			}
			<-time.After(c.after)
			if d := aheadOf(); d != 0 {
				t.Errorf("after steps of %v it is still %v ahead", c.step, d)
			}
			if told := log.tellsOf(); len(told) != 1 {
				t.Errorf("it told of %v", told)
			}
		})
	}
}

// A process whose own clock is wrong does not fill its log.
func TestOneWrongClockAmongManyIsFewLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const processes, most = 40, 16
		store := newStore(t, journals)
		db, log := store.Open(), &logged{t: t}
		run(t, dserver.Consumer{Logger: log.logger()}, db, journals)
		var all sync.WaitGroup
		ctx, end := context.WithTimeout(t.Context(), time.Hour)
		defer end()
		for i := range processes {
			all.Go(func() {
				id, db := fmt.Sprintf("%026d", i), store.Open()
				for ctx.Err() == nil {
					_ = db.Transact(ctx, func(tx backend.Tx) error {
						tx.Set(recordKey(id), puppetRecord("puppet", i, time.Now().Add(time.Hour)))
						return nil
					})
					select {
					case <-ctx.Done():
					case <-time.After(10*time.Second + time.Duration(i)*time.Millisecond):
					}
				}
			})
		}
		all.Wait()
		if told := log.tellsOf(); len(told) != most {
			t.Errorf("of %d processes %d are told", processes, len(told))
		}
		n := 0
		for _, p := range consumersOf(t, db) {
			if p.Ahead > 50*time.Minute {
				n++
			}
		}
		if n != processes {
			t.Errorf("of %d processes %d are seen to differ", processes, n)
		}
	})
}
