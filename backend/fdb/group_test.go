//go:build fdb

package fdb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"
	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/operate"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// jam is a handle whose flights are all taken: what is committed waits in the line.
type jam struct {
	*DB
	t       *testing.T
	sent    []fdb.Transaction // after the jam
	answer  func(tr fdb.Transaction) error
	release chan struct{}
	pushed  sync.WaitGroup
}

// newJam takes all flights with transactions that write at "jam".
func newJam(t *testing.T) *jam {
	j := &jam{DB: openFresh(t), t: t, answer: commit, release: make(chan struct{})}
	j.options.linePatience = time.Hour
	if _, _, err := increment(t.Context(), j.DB, true); err != nil { // so that there is a session, and a recent version
		t.Fatal(err)
	}
	var mu sync.Mutex
	var held int
	j.send = func(tr fdb.Transaction) error {
		mu.Lock()
		if held < flights {
			held++
			mu.Unlock()
			<-j.release
			return commit(tr)
		}
		j.sent = append(j.sent, tr)
		mu.Unlock()
		return j.answer(tr)
	}
	for i := range flights {
		j.pushed.Go(func() {
			err := j.Transact(t.Context(), func(tx backend.Tx) error {
				tx.Set(backend.NewKey("jam").Int(int64(i)), nil)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
		waitUntil(t, "a flight is taken", func() bool { mu.Lock(); defer mu.Unlock(); return held == i+1 })
	}
	return j
}

// waiting waits until so many wait in the line.
func (j *jam) waiting(n int) {
	j.t.Helper()
	waitUntil(j.t, fmt.Sprint(n, " wait in the line"), func() bool {
		j.line.mu.Lock()
		defer j.line.mu.Unlock()
		return len(j.line.waiting) == n
	})
}

// waits starts a transaction, and returns when it is the n-th that waits.
func (j *jam) waits(ctx context.Context, n int, fn func(tx backend.Tx) error, then func(error)) {
	j.t.Helper()
	j.pushed.Go(func() { then(j.Transact(ctx, fn)) })
	j.waiting(n)
}

func (j *jam) end() {
	close(j.release)
	j.pushed.Wait()
}

// noError is for transactions that are to be committed.
func (j *jam) noError(err error) {
	if err != nil {
		j.t.Error(err)
	}
}

func TestTransactionsThatWaitAreOneCommit(t *testing.T) {
	j := newJam(t)
	const members = 5
	var versions [members]backend.Future[backend.Versionstamp]
	for i := range members {
		j.waits(t.Context(), i+1, func(tx backend.Tx) error {
			tx.Add(backend.NewKey("sum"), int64(i))
			tx.Set(backend.NewKey("last"), fmt.Append(nil, i))
			for n := range i {
				tx.Append(backend.NewKey("items"), fmt.Append(nil, i, n))
			}
			tx.Stamp(backend.NewKey("stamp").Int(int64(i)))
			versions[i] = tx.Version()
			return nil
		}, j.noError)
	}
	j.end()
	if len(j.sent) != 1 {
		t.Errorf("%d commits", len(j.sent))
	}
	err := j.Read(t.Context(), func(tx backend.ReadTx) error {
		n, _ := tx.Get(backend.NewKey("sum")).Get()
		if sum, _ := backend.Counter(n); sum != 0+1+2+3+4 {
			t.Errorf("the sum is %d", sum)
		}
		if last, _ := tx.Get(backend.NewKey("last")).Get(); string(last) != "4" {
			t.Errorf("the last is %s", last)
		}
		items, err := tx.GetRange(backend.NewKey("items").Below(), backend.RangeOptions{}).Get()
		if err != nil {
			return err
		}
		var before backend.Versionstamp
		for i := range members {
			v, err := versions[i].Get()
			if err != nil || v.Compare(before) <= 0 {
				t.Errorf("member %d has the version %v after %v: %v", i, v, before, err)
			}
			before = v
			stamp, _ := tx.Get(backend.NewKey("stamp").Int(int64(i))).Get()
			if string(stamp) != string(v[:]) {
				t.Errorf("member %d has stamped %x, its version is %v", i, stamp, v)
			}
			for n := range i {
				item := items[0]
				items = items[1:]
				want := backend.NewKey("items").Stamp(v.Plus(n))
				if item.Key.Compare(want) != 0 || string(item.Value) != fmt.Sprint(i, n) {
					t.Errorf("item %d of member %d is %s at %v, not %v", n, i, item.Value, item.Key, want)
				}
			}
		}
		return nil
	})
	if s := j.Stats(); err != nil || s.Conflicts != 0 || s.Commits != 1+flights+members || s.Groups != 1+flights+1 {
		t.Errorf("%+v, %v", s, err)
	}
}

// Who has read what one before it writes does not go with it, and runs again.
func TestAReaderDoesNotGoWithWhoWritesWhatItRead(t *testing.T) {
	j, runs := newJam(t), 0
	n := backend.NewKey("count")
	j.waits(t.Context(), 1, func(tx backend.Tx) error { tx.Add(n, 1); return nil }, j.noError)
	j.waits(t.Context(), 2, func(tx backend.Tx) error {
		runs++
		value, err := tx.Get(n).Get()
		seen, _ := backend.Counter(value)
		tx.Set(n, backend.CounterValue(seen+10))
		return err
	}, j.noError)
	j.waits(t.Context(), 3, func(tx backend.Tx) error { tx.Add(n, 100); return nil }, j.noError)
	j.end()
	if got := j.count(n); got != 111 || runs != 2 && runs != 1 {
		t.Errorf("the count is %d, the reader ran %d times", got, runs)
	}
}

func (j *jam) count(key backend.Key) (n int64) {
	j.t.Helper()
	err := j.Read(j.t.Context(), func(tx backend.ReadTx) error {
		value, err := tx.Get(key).Get()
		n, _ = backend.Counter(value)
		return err
	})
	if err != nil {
		j.t.Error(err)
	}
	return n
}

// One member's lost race is not the others'.
func TestMembersOfARefusedGroupAreSentAlone(t *testing.T) {
	j := newJam(t)
	var runs [3]int
	key := func(i int) backend.Key { return backend.NewKey("k").Int(int64(i)) }
	for i := range 3 {
		j.waits(t.Context(), i+1, func(tx backend.Tx) error {
			runs[i]++
			_, err := tx.Get(key(i)).Get()
			tx.Add(key(i), 1)
			return err
		}, j.noError)
	}
	other := openTest(t, "", Dir(j.options.path...))
	if err := other.Transact(t.Context(), func(tx backend.Tx) error { tx.Add(key(1), 10); return nil }); err != nil {
		t.Fatal(err)
	}
	j.end()
	if runs != [3]int{1, 2, 1} {
		t.Errorf("the members ran %v times", runs)
	}
	if a, b, c := j.count(key(0)), j.count(key(1)), j.count(key(2)); a != 1 || b != 11 || c != 1 {
		t.Errorf("the counts are %d, %d and %d", a, b, c)
	}
}

// A group is found as a whole, or fenced off as a whole.
func TestALostAnswerToAGroupIsLookedUp(t *testing.T) {
	for _, isCommitted := range []bool{true, false} {
		t.Run(fmt.Sprint("committed ", isCommitted), func(t *testing.T) {
			j := newJam(t)
			var late fdb.Transaction
			var once sync.Once
			j.answer = func(tr fdb.Transaction) (err error) {
				err = errors.New("not the first")
				once.Do(func() {
					if late = tr; isCommitted {
						j.noError(commit(tr))
					}
					err = fdb.Error{Code: codeTimedOut}
				})
				if codeOf(err) == 0 {
					return commit(tr)
				}
				return err
			}
			const members = 4
			var runs [members]int
			var versions [members]backend.Future[backend.Versionstamp]
			for i := range members {
				j.waits(t.Context(), i+1, func(tx backend.Tx) error {
					runs[i]++
					tx.Add(backend.NewKey("sum"), 1)
					tx.Append(backend.NewKey("item").Int(int64(i)), nil)
					versions[i] = tx.Version()
					return nil
				}, j.noError)
			}
			j.end()
			if n := j.count(backend.NewKey("sum")); n != members {
				t.Errorf("the sum is %d", n)
			}
			err := j.Read(t.Context(), func(tx backend.ReadTx) error {
				for i := range members {
					v, _ := versions[i].Get()
					item, err := tx.Get(backend.NewKey("item").Int(int64(i)).Stamp(v)).Get()
					if err != nil || item == nil {
						t.Errorf("no item of member %d at its version %v: %v", i, v, err)
					}
				}
				return nil
			})
			j.noError(err)
			s := j.Stats()
			if isCommitted && (runs != [members]int{1, 1, 1, 1} || s.Landed != members) {
				t.Errorf("ran %v times, %+v", runs, s)
			}
			if !isCommitted && (runs != [members]int{2, 2, 2, 2} || s.Fenced != members || codeOf(commit(late)) != codeNotCommitted) {
				t.Errorf("ran %v times, %+v", runs, s)
			}
		})
	}
}

// Who leaves the line is sure that nothing was committed.
func TestWhoLeavesTheLineIsNotCommitted(t *testing.T) {
	j := newJam(t)
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan error, 1)
	add := func(tx backend.Tx) error { tx.Add(backend.NewKey("n"), 10); return nil }
	j.waits(ctx, 1, add, func(err error) { told <- err })
	cancel()
	if err := <-told; !errors.Is(err, context.Canceled) || errors.Is(err, backend.ErrCommitUnknown) {
		t.Errorf("who left was told %v", err)
	}
	j.end()
	if n := j.count(backend.NewKey("n")); n != 1 || len(j.sent) != 0 {
		t.Errorf("the count is %d, and %d were sent", n, len(j.sent))
	}
}

// Commits that wait for the cluster hold up nobody for long.
func TestNobodyWaitsForCommitsThatAreStuck(t *testing.T) {
	j := newJam(t)
	j.options.linePatience = defaults().linePatience
	j.noError(j.Transact(t.Context(), func(tx backend.Tx) error { tx.Set(backend.NewKey("x"), nil); return nil }))
	j.end()
}

// Import makes stamps of its own commit for the messages that it brings: a push to that server is not in the same commit.
func TestImportAndAPushAreNoCommonCommit(t *testing.T) {
	ref := tenant.Ref{Type: "ship", ID: "x"}
	push := func(name string) func(tx backend.Tx) error {
		return func(tx backend.Tx) error {
			tenant.SetReady(tx, ref)
			return tenant.KeysOf(ref).Queue().Push(tx, queue.Normal, tenant.Envelope{Name: name, Body: []byte{0xf6}}.Encode())
		}
	}
	from, j := openFresh(t), newJam(t)
	j.noError(from.Transact(t.Context(), push("imported")))
	var file bytes.Buffer
	_, err := operate.Export(t.Context(), from, &file, func(yield func(tenant.Ref, error) bool) { yield(ref, nil) })
	j.noError(err)
	imported := 0
	j.pushed.Go(func() {
		var err error
		if imported, err = operate.Import(t.Context(), j, &file); !errors.Is(err, tenant.ErrChanged) { // the push was first
			j.noError(err)
		}
	})
	j.waiting(1)
	j.waits(t.Context(), 2, push("pushed"), j.noError)
	j.end()
	j.noError(j.Read(t.Context(), func(tx backend.ReadTx) error {
		items, err := tenant.KeysOf(ref).Queue().Read(tx, queue.Item{}, 10)
		var names []string
		for _, item := range items {
			e, err := tenant.DecodeEnvelope(item.Body)
			j.noError(err)
			names = append(names, e.Name)
		}
		if want := []string{"imported", "pushed"}[1-imported:]; !slices.Equal(names, want) {
			t.Errorf("the queue has %q, not %q", names, want)
		}
		return err
	}))
}

// The library would count each of them; Size counts a little less than the cluster's limit.
func TestConflictsThatRepeatAreOne(t *testing.T) {
	db, key := openFresh(t), backend.NewKey("k")
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		_, err := tx.Get(key).Get()
		for range 300_000 {
			tx.Conflict(key)
		}
		tx.Set(key, nil)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// What was told of a commit stays so when its answer comes.
func TestTheFirstOutcomeStays(t *testing.T) {
	db := openFresh(t)
	if _, _, err := increment(t.Context(), db, true); err != nil {
		t.Fatal(err)
	}
	release, sent := make(chan struct{}), make(chan error)
	db.send = func(tr fdb.Transaction) error {
		<-release
		err := commit(tr)
		sent <- err
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	var v backend.Future[backend.Versionstamp]
	err := db.Transact(ctx, func(tx backend.Tx) error {
		tx.Set(backend.NewKey("v"), nil)
		v = tx.Version()
		return nil
	})
	if !errors.Is(err, backend.ErrCommitUnknown) {
		t.Fatal(err)
	}
	close(release)
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil { // when all is settled
		t.Error(err)
	}
	if _, err := v.Get(); !errors.Is(err, backend.ErrCommitUnknown) {
		t.Errorf("after the answer: %v", err)
	}
}

// A handle does not keep transactions whose context has ended.
func TestTransactionsThatWereEndedAreForgotten(t *testing.T) {
	db := openFresh(t)
	const all = 50
	var freed atomic.Int64
	for range all {
		ctx, cancel := context.WithCancel(t.Context())
		err := db.Transact(ctx, func(x backend.Tx) error {
			runtime.AddCleanup(x.(*tx), func(int) { freed.Add(1) }, 0)
			_, err := x.Get(backend.NewKey("k")).Get()
			x.Set(backend.NewKey("v"), nil)
			cancel()
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	waitUntil(t, "nearly all are freed", func() bool { runtime.GC(); return freed.Load() >= all-2 })
}

func TestCloseEndsTheLine(t *testing.T) {
	j := newJam(t)
	told := make(chan error, 1)
	j.waits(t.Context(), 1, func(tx backend.Tx) error { tx.Add(backend.NewKey("n"), 10); return nil }, func(err error) { told <- err })
	closed := make(chan error)
	go func() { closed <- j.Close() }()
	if err := <-told; !errors.Is(err, backend.ErrClosed) || errors.Is(err, backend.ErrCommitUnknown) {
		t.Errorf("who waited was told %v", err)
	}
	close(j.release)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// member is an attempt that nobody commits.
func member(version, since int64, conflicts ...backend.Range) *tx {
	t := &tx{version: version, since: since, hasRead: version > 0, isRecalled: version > since}
	t.space = new(space)
	for _, r := range conflicts {
		t.conflict(r)
	}
	return t
}

func TestWhoMayGoWithAGroup(t *testing.T) {
	const blind, reader = 0, 50
	writer := member(blind, blind)
	writer.put(nil, set, fdb.Key(backend.NewKey("a", "b")), nil)
	appender := member(blind, blind)
	appender.space.data = backend.NewKey("a")
	appender.Append(backend.NewKey("b"), nil)
	clearer := member(blind, blind)
	clearer.put(nil, clearRange, fdb.Key(backend.NewKey("a")), backend.NewKey("b"))
	large := member(blind, blind)
	large.bytes = groupBytes
	many := member(blind, blind)
	many.appends = backend.MaxAppends
	below := backend.NewKey("a", "b").Below()
	for name, c := range map[string]struct {
		members []*tx
		next    *tx
		may     bool
		version int64
	}{
		"blind with blind":                           {[]*tx{member(blind, blind)}, member(blind, blind), true, 0},
		"reader with blind":                          {[]*tx{member(blind, blind)}, member(reader, reader), true, 50},
		"readers of one version":                     {[]*tx{member(reader, reader)}, member(reader, reader), true, 50},
		"reader after an older one":                  {[]*tx{member(40, 40)}, member(reader, reader), false, 0},
		"reader after a newer one":                   {[]*tx{member(60, 60)}, member(reader, reader), false, 0},
		"known for long":                             {[]*tx{member(40, 10)}, member(60, 20), true, 40},
		"known since":                                {[]*tx{member(40, 10)}, member(60, 45), false, 0},
		"known before, but not by the one before it": {[]*tx{member(60, 45)}, member(40, 10), false, 0},
		"reader with who knows":                      {[]*tx{member(60, 10)}, member(reader, reader), true, 50},
		"reader with who knows of an older time":     {[]*tx{member(40, 10)}, member(reader, reader), false, 0},
		"reader of what is written":                  {[]*tx{writer}, member(reader, reader, backend.NewKey("a", "b").Only()), false, 0},
		"reader of what is not":                      {[]*tx{writer}, member(reader, reader, below), true, 50},
		"reader of what is appended":                 {[]*tx{appender}, member(reader, reader, below), false, 0},
		"writer of what is read":                     {[]*tx{member(reader, reader, backend.NewKey("a").Tree())}, writer, false, 0},
		"who appends to what is read":                {[]*tx{member(reader, reader, below)}, appender, false, 0},
		"reader of what is cleared":                  {[]*tx{clearer}, member(reader, reader, below), false, 0},
		"large after another":                        {[]*tx{writer}, large, false, 0},
		"many appends after one":                     {[]*tx{appender}, many, false, 0},
	} {
		var g group
		for _, m := range c.members {
			g.admit(m)
		}
		if got := g.admit(c.next); got != c.may || got && g.version != c.version {
			t.Errorf("%s: %v, version %d", name, got, g.version)
		}
	}
}

// Where many cannot go together, each flight looks at some of them only.
func TestALineThatDoesNotGoTogetherIsNotSearchedWhole(t *testing.T) {
	var l line
	for i := range int64(2 * groupMisses) {
		l.join(member(1000-i, 1000-i))
	}
	last := member(1000, 1000)
	l.join(last)
	flying := l.flying
	g, more := l.next()
	if len(g.members) != 1 || !more || len(l.waiting) != 2*groupMisses || l.waiting[2*groupMisses-1] != last || l.flying != flying+1 {
		t.Errorf("%d go, %d are left, more %v, %d fly", len(g.members), len(l.waiting), more, l.flying)
	}
}

// A group that ended in an error that nobody expects, and was fenced off, is not its members' fault.
func TestMembersOfAGroupThatFailedStrangelyAreSentAlone(t *testing.T) {
	j := newJam(t)
	var first sync.Once
	j.answer = func(tr fdb.Transaction) (err error) {
		first.Do(func() { err = fdb.Error{Code: 1510} })
		if err == nil {
			err = commit(tr)
		}
		return err
	}
	const members = 3
	var runs [members]int
	for i := range members {
		j.waits(t.Context(), i+1, func(tx backend.Tx) error {
			runs[i]++
			tx.Add(backend.NewKey("sum"), 1)
			return nil
		}, j.noError)
	}
	j.end()
	if n, s := j.count(backend.NewKey("sum")), j.Stats(); n != members || runs != [members]int{1, 1, 1} || s.Fenced != members || len(j.sent) != 1+members {
		t.Errorf("the sum is %d, ran %v times, %d sent, %+v", n, runs, len(j.sent), s)
	}
}

// A commit that is refused as too old is a transaction's own fault where it took long, and else a race.
func TestWhoIsTooOldByItsOwnFault(t *testing.T) {
	for _, isSlow := range []bool{false, true} {
		t.Run(fmt.Sprint("slow ", isSlow), func(t *testing.T) {
			t.Parallel()
			db, runs := openFresh(t), 0
			db.fail(func(fdb.Transaction) error { return fdb.Error{Code: codeTooOld} })
			err := db.Transact(t.Context(), func(tx backend.Tx) error {
				_, err := tx.Get(backend.NewKey("k")).Get()
				if runs++; runs == 1 && isSlow {
					idle(t.Context(), backend.MaxDuration/2+50*time.Millisecond)
				}
				tx.Set(backend.NewKey("v"), nil)
				return err
			})
			if races := db.Stats().Conflicts; err != nil || runs != 2 || (races == 0) != isSlow {
				t.Errorf("ran %d times, %d races: %v", runs, races, err)
			}
		})
	}
}

// What is left of several writes of a key has the effect of all of them.
func TestStepsOfAGroup(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var g group
		var all []step
		for range rapid.IntRange(1, 5).Draw(r, "members") {
			m := member(0, 0)
			for range rapid.IntRange(1, 8).Draw(r, "writes") {
				key := fdb.Key(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "key"))
				switch value := rapid.Uint64Range(0, 9).Draw(r, "value"); rapid.IntRange(0, 4).Draw(r, "kind") {
				case 0:
					m.put(nil, set, key, binary.LittleEndian.AppendUint64(nil, value))
				case 1:
					m.put(nil, clearKey, key, nil)
				case 2:
					m.put(nil, clearRange, key, []byte("c"))
				case 3:
					m.put(nil, add, key, binary.LittleEndian.AppendUint64(nil, value))
				case 4:
					m.Append(backend.NewKey("q"), binary.LittleEndian.AppendUint64(nil, value))
				}
			}
			g.admit(m)
			for _, w := range m.writes {
				w.value = bytes.Clone(w.value)
				all = append(all, step{w, m.first})
			}
		}
		want, got := effect(all), effect(g.steps())
		if !maps.Equal(want, got) {
			r.Errorf("%v, and not %v", got, want)
		}
	})
}

// effect is what the steps write, in an empty store.
func effect(steps []step) map[string]uint64 {
	m := map[string]uint64{}
	for _, x := range steps {
		switch key := string(x.key); x.kind {
		case set:
			m[key] = binary.LittleEndian.Uint64(x.value)
		case clearKey:
			delete(m, key)
		case clearRange:
			maps.DeleteFunc(m, func(k string, _ uint64) bool { return k >= key && k < string(x.value) })
		case add:
			m[key] += binary.LittleEndian.Uint64(x.value)
		case stampKey:
			m[fmt.Sprint(strings.Clone(key), x.first+x.order)] = binary.LittleEndian.Uint64(x.value)
		}
	}
	return m
}

// Many that read, recall, append and are blind at once lose and double nothing, whatever goes with what.
func TestGroupsUnderLoad(t *testing.T) {
	db := openFresh(t)
	const workers, each = 48, 30
	var done sync.WaitGroup
	var mu sync.Mutex
	seen := map[backend.Versionstamp]bool{}
	for w := range workers {
		own, shared := backend.NewKey("own").Int(int64(w)), backend.NewKey("shared").Int(int64(w%4))
		done.Go(func() {
			var last, first backend.Versionstamp
			for i := range each {
				var v backend.Future[backend.Versionstamp]
				recalled := false
				err := db.Transact(t.Context(), func(tx backend.Tx) (err error) {
					recalled = !last.IsZero() && tx.(backend.Recaller).Recall(last, first, own.Str("known").Tree())
					switch {
					case recalled:
					case w%3 == 0 && i > 0: // blind
					default:
						_, err = tx.GetRange(own.Str("known").Tree(), backend.RangeOptions{}).Get()
						if w%5 == 0 {
							_, err = tx.Get(shared).Get()
						}
					}
					tx.Add(shared, 1)
					tx.Add(own, 1)
					tx.Append(backend.NewKey("q"), nil)
					v = tx.Version()
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
				stamp, err := v.Get()
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				if seen[stamp] {
					t.Errorf("two transactions have the version %v", stamp)
				}
				seen[stamp] = true
				mu.Unlock()
				if w%3 == 1 {
					if last = stamp; !recalled {
						first = stamp
					}
				}
			}
		})
	}
	done.Wait()
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		var sum int64
		for i := range 4 {
			value, _ := tx.Get(backend.NewKey("shared").Int(int64(i))).Get()
			n, _ := backend.Counter(value)
			sum += n
		}
		items, err := tx.GetRange(backend.NewKey("q").Below(), backend.RangeOptions{}).Get()
		if sum != workers*each || len(items) != workers*each {
			t.Errorf("the sum is %d, and there are %d items", sum, len(items))
		}
		for _, item := range items {
			if v, _ := item.Key.CutStamp(backend.NewKey("q")); !seen[v] {
				t.Errorf("%v is nobody's version", v)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("%+v", db.Stats())
}
