package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/queue"
)

// The head of a body that is cut into rows: one that is given as a body must not be taken for it.
const chunkHead = "\xda\x44\x53\x43\x48"

// shelf is a queue beside the slices that it must be equal to.
type shelf struct {
	db    backend.Database
	q     queue.Queue
	lanes [2][]queue.Item
}

func (s *shelf) transact(t rapid.TB, fn func(tx backend.Tx) error) {
	t.Helper()
	if err := s.db.Transact(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func (s *shelf) read(t rapid.TB, fn func(tx backend.ReadTx) error) {
	t.Helper()
	if err := s.db.Read(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func (s *shelf) all() []queue.Item { return slices.Concat(s.lanes[0], s.lanes[1]) }

// bodies draws items of all sizes, among them those that are cut into rows and those that look as if they were.
func bodies() *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		size := rapid.SampledFrom([]int{0, 1, 10, 1000, 64<<10 - 9, 64 << 10, 64<<10 + 1, 300_000}).Draw(t, "size")
		body := bytes.Repeat([]byte{byte(rapid.IntRange(0, 255).Draw(t, "byte"))}, size)
		if rapid.IntRange(0, 4).Draw(t, "head") == 0 {
			body = append([]byte(chunkHead), body...)
		}
		return body
	})
}

func (s *shelf) push(t *rapid.T) {
	lane := queue.Lane(rapid.IntRange(0, 1).Draw(t, "lane"))
	items := rapid.SliceOfN(bodies(), 1, 3).Draw(t, "items")
	var version backend.Future[backend.Versionstamp]
	s.transact(t, func(tx backend.Tx) error {
		version = tx.Version()
		return s.q.Push(tx, lane, items...)
	})
	if _, err := version.Get(); err != nil {
		t.Fatal(err)
	}
	s.read(t, func(tx backend.ReadTx) error { // the stamps are the queue's to say
		found, err := s.walk(tx, 1000)
		known := len(s.all())
		if len(found) != known+len(items) {
			t.Fatalf("%d items after a push of %d to %d", len(found), len(items), known)
		}
		for _, item := range found {
			isNew := !slices.ContainsFunc(s.all(), func(old queue.Item) bool { return old.Stamp == item.Stamp })
			if isNew && (item.Lane != lane || len(items) == 0 || !bytes.Equal(item.Body, items[0])) {
				t.Fatalf("an item of %d bytes in lane %d", len(item.Body), item.Lane)
			}
			if isNew {
				s.lanes[lane], items = append(s.lanes[lane], item), items[1:]
			}
		}
		return err
	})
}

// walk reads everything, a few items at a time.
func (s *shelf) walk(tx backend.Reader, limit int) (found []queue.Item, err error) {
	for last := (queue.Item{}); ; last = found[len(found)-1] {
		items, err := s.q.Read(tx, last, limit)
		if err != nil || len(items) == 0 {
			return found, err
		}
		if len(items) > limit {
			return nil, fmt.Errorf("%d items where %d were asked for", len(items), limit)
		}
		found = append(found, items...)
	}
}

func (s *shelf) walks(t *rapid.T) {
	limit := rapid.IntRange(1, 10).Draw(t, "limit")
	s.read(t, func(tx backend.ReadTx) error {
		found, err := s.walk(tx, limit)
		s.expect(t, found, s.all())
		return err
	})
}

func (*shelf) expect(t rapid.TB, got, want []queue.Item) {
	t.Helper()
	if !slices.EqualFunc(got, want, func(a, b queue.Item) bool {
		return a.Lane == b.Lane && a.Stamp == b.Stamp && bytes.Equal(a.Body, b.Body)
	}) {
		t.Fatalf("got %s\nwant %s", shown(got), shown(want))
	}
}

func shown(items []queue.Item) string {
	words := make([]string, len(items))
	for i, item := range items {
		words[i] = fmt.Sprintf("%d:%v:%d", item.Lane, item.Stamp, len(item.Body))
	}
	return strings.Join(words, " ")
}

// take removes a batch from the head, as a consumer does: it reads rows with a limit, and parses them.
func (s *shelf) take(t *rapid.T) {
	rows := rapid.IntRange(1, 12).Draw(t, "rows")
	var got []queue.Item
	s.transact(t, func(tx backend.Tx) error {
		got = nil
		pairs, err := tx.GetRange(s.q.Rows(), backend.RangeOptions{Limit: rows, Snapshot: true}).Get()
		if err != nil {
			return err
		}
		items, whole, err := s.q.Parse(pairs)
		if err != nil {
			return err
		}
		if len(items) == 0 && !whole {
			first, ok, err := s.q.First(tx, s.q.Rows())
			if err != nil || !ok {
				return fmt.Errorf("the head is not there: %w", err)
			}
			items = []queue.Item{first}
		}
		if len(items) > 0 {
			s.q.Remove(tx, items...)
		}
		got = items
		return nil
	})
	all := s.all()
	if len(got) == 0 && len(all) > 0 || len(got) > len(all) {
		t.Fatalf("took %d of %d", len(got), len(all))
	}
	s.expect(t, got, all[:len(got)])
	s.forget(got...)
}

func (s *shelf) forget(items ...queue.Item) {
	for _, gone := range items {
		s.lanes[gone.Lane] = slices.DeleteFunc(s.lanes[gone.Lane], func(item queue.Item) bool { return item.Stamp == gone.Stamp })
	}
}

// find looks for an item that is there, or was, and removes it.
func (s *shelf) find(t *rapid.T) {
	all := s.all()
	if len(all) == 0 {
		t.Skip("nothing is there to be found")
	}
	want := rapid.SampledFrom(all).Draw(t, "item")
	for _, there := range []bool{true, false} {
		s.transact(t, func(tx backend.Tx) error {
			item, found, err := s.q.Find(tx, want.Stamp)
			if err != nil || found != there {
				t.Fatalf("found: %v, %v", found, err)
			}
			if found {
				s.expect(t, []queue.Item{item}, []queue.Item{want})
				s.q.Remove(tx, item)
			}
			return nil
		})
	}
	s.forget(want)
}

// drop empties the head of the lanes, as the one reader of a mailbox does.
func (s *shelf) drop(t *rapid.T) {
	all := s.all()
	if len(all) == 0 {
		t.Skip("nothing is there to be dropped")
	}
	n := rapid.IntRange(1, len(all)).Draw(t, "n")
	s.transact(t, func(tx backend.Tx) error {
		s.q.Drop(tx, all[n-1], n)
		return nil
	})
	s.forget(all[:n]...)
}

// compare is the invariant.
func (s *shelf) compare(t *rapid.T) {
	s.read(t, func(tx backend.ReadTx) error {
		n, err := s.q.Len(tx).Get()
		if err != nil || int(n) != len(s.all()) {
			t.Fatalf("the length is %d of %d, %v", n, len(s.all()), err)
		}
		empty, err := s.q.IsEmpty(tx)
		if err != nil || empty != (n == 0) {
			t.Fatalf("it is empty: %v, %v", empty, err)
		}
		return s.q.Check(tx, func(queue.Item) error { return nil })
	})
}

func TestQueueIsASlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		db := backendtest.NewModel()
		// Neighbours, which must not be seen: keys before, behind and within those of the queue's name.
		neighbours := []queue.Queue{queue.At(backend.NewKey("p")), queue.At(backend.NewKey("qq")), queue.At(backend.NewKey("r"))}
		for _, q := range neighbours {
			if err := db.Transact(context.Background(), func(tx backend.Tx) error { return q.Push(tx, queue.Normal, []byte("other")) }); err != nil {
				t.Fatal(err)
			}
		}
		s := &shelf{db: db, q: queue.At(backend.NewKey("q"))}
		t.Repeat(map[string]func(*rapid.T){
			"push": s.push, "take": s.take, "walk": s.walks, "find": s.find, "drop": s.drop, "": s.compare,
		})
		for _, q := range neighbours {
			s.read(t, func(tx backend.ReadTx) error {
				if n, err := q.Len(tx).Get(); n != 1 || err != nil {
					t.Fatalf("a neighbour has %d items, %v", n, err)
				}
				return q.Check(tx, func(queue.Item) error { return nil })
			})
		}
	})
}

func TestTooLargeAnItemPushesNothing(t *testing.T) {
	db, q := backendtest.NewModel(), queue.At(backend.NewKey("q"))
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		err := q.Push(tx, queue.Normal, []byte("small"), make([]byte, queue.MaxItemBytes+1))
		if !errors.Is(err, backend.ErrTooLarge) {
			t.Errorf("%v", err)
		}
		return q.Push(tx, queue.Normal, make([]byte, queue.MaxItemBytes))
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Read(t.Context(), func(tx backend.ReadTx) error {
		items, err := q.Read(tx, queue.Item{}, 10)
		if len(items) != 1 || len(items[0].Body) != queue.MaxItemBytes {
			t.Errorf("%d items", len(items))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// during runs fn in a transaction, with another one in between its reads and its commit, and returns how often it ran.
func during(t *testing.T, db backend.Database, fn, other func(tx backend.Tx) error) (runs int) {
	t.Helper()
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		runs++
		if err := fn(tx); err != nil {
			return err
		}
		if runs > 1 {
			return nil
		}
		return db.Transact(t.Context(), other)
	})
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

// Who is in whose way: a table of what conflicts, and of what must not.
func TestConflictsAreThoseThatAreNeeded(t *testing.T) {
	q := queue.At(backend.NewKey("q"))
	push := func(lane queue.Lane) func(tx backend.Tx) error {
		return func(tx backend.Tx) error { return q.Push(tx, lane, []byte("pushed")) }
	}
	takes := func(from, n int) func(tx backend.Tx) error {
		return func(tx backend.Tx) error {
			items, err := q.Read(tx, queue.Item{}, 100)
			if err == nil && len(items) >= from+n {
				q.Remove(tx, items[from:from+n]...)
			}
			return err
		}
	}
	finds := func(tx backend.Tx) error {
		items, err := q.Read(tx, queue.Item{}, 1)
		if err == nil {
			_, _, err = q.Find(tx, items[0].Stamp)
		}
		tx.Set(backend.NewKey("elsewhere"), nil)
		return err
	}
	concludes := func(tx backend.Tx) error {
		_, err := q.IsEmpty(tx)
		tx.Set(backend.NewKey("elsewhere"), nil)
		return err
	}
	measures := func(tx backend.Tx) error {
		_, err := q.Len(tx).Get()
		tx.Set(backend.NewKey("elsewhere"), nil)
		return err
	}
	for _, c := range []struct {
		name      string
		items     int
		fn, other func(tx backend.Tx) error
		runs      int
	}{
		{"a push beside a push", 0, push(queue.Normal), push(queue.Normal), 1},
		{"a push beside a take of all", 3, takes(0, 3), push(queue.Normal), 1},
		{"a priority push beside a take", 3, takes(0, 3), push(queue.Priority), 1},
		{"a take beside a push", 3, push(queue.Normal), takes(0, 3), 1},
		{"two takes of the same", 3, takes(0, 2), takes(0, 2), 2},
		{"two takes that share one", 3, takes(0, 2), takes(1, 2), 2},
		{"two takes of others", 4, takes(0, 2), takes(2, 2), 1},
		{"a push beside finding", 1, finds, push(queue.Normal), 1},
		{"a take beside finding it", 2, finds, takes(0, 1), 2},
		{"a push beside the conclusion that it is empty", 0, concludes, push(queue.Normal), 2},
		{"a priority push beside that conclusion", 0, concludes, push(queue.Priority), 2},
		{"a push beside the length", 2, measures, push(queue.Normal), 1},
		{"a take beside the length", 2, measures, takes(0, 1), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := backendtest.NewModel()
			for i := range c.items {
				if err := db.Transact(t.Context(), func(tx backend.Tx) error {
					return q.Push(tx, queue.Normal, bytes.Repeat([]byte{byte(i)}, 1+i*100_000))
				}); err != nil {
					t.Fatal(err)
				}
			}
			if runs := during(t, db, c.fn, c.other); runs != c.runs {
				t.Errorf("it ran %d times, not %d", runs, c.runs)
			}
		})
	}
}

// Pushers and takers at once: each item is taken once, and of each pusher and lane in its order.
func TestCompetingTakersShareTheQueue(t *testing.T) {
	const pushers, takers, each = 4, 4, 60
	db, q := backendtest.NewModel(), queue.At(backend.NewKey("q"))
	var pushing, taking sync.WaitGroup
	for p := range pushers {
		random := rand.New(rand.NewPCG(uint64(p), 0))
		pushing.Go(func() {
			for i := 0; i < each; i += 2 {
				a := fmt.Appendf(nil, "%d %d %s", p, i, strings.Repeat("x", random.IntN(2)*100_000))
				b := fmt.Appendf(nil, "%d %d", p, i+1)
				if err := db.Transact(t.Context(), func(tx backend.Tx) error { return q.Push(tx, queue.Lane(p%2), a, b) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	pushed := make(chan struct{})
	go func() { pushing.Wait(); close(pushed) }()
	var mu sync.Mutex
	type place struct {
		lane  queue.Lane
		stamp backend.Versionstamp
	}
	taken := map[place]int{}
	for range takers {
		taking.Go(func() {
			for {
				var over bool
				select {
				case <-pushed:
					over = true
				default:
				}
				items, err := takeSome(t.Context(), db, q)
				if err != nil {
					t.Error(err)
				}
				if len(items) == 0 && over || err != nil {
					return
				}
				mu.Lock()
				for _, item := range items {
					taken[place{item.Lane, item.Stamp}]++
				}
				mu.Unlock()
			}
		})
	}
	taking.Wait()
	for item, n := range taken {
		if n != 1 {
			t.Errorf("item %v of lane %d was taken %d times", item.stamp, item.lane, n)
		}
	}
	if len(taken) != pushers*each {
		t.Errorf("%d items were taken of %d", len(taken), pushers*each)
	}
	err := db.Read(t.Context(), func(tx backend.ReadTx) error { return q.Check(tx, func(queue.Item) error { return nil }) })
	if err != nil {
		t.Error(err)
	}
}

// takeSome takes up to seven items, in their order.
func takeSome(ctx context.Context, db backend.Database, q queue.Queue) (taken []queue.Item, err error) {
	err = db.Transact(ctx, func(tx backend.Tx) error {
		taken = nil
		items, err := q.Read(tx, queue.Item{}, 7)
		if err != nil || len(items) == 0 {
			return err
		}
		for i := 1; i < len(items); i++ {
			if items[i].Lane == items[i-1].Lane && items[i].Stamp.Compare(items[i-1].Stamp) <= 0 || items[i].Lane < items[i-1].Lane {
				return fmt.Errorf("item %d of a batch is out of order", i)
			}
		}
		q.Remove(tx, items...)
		taken = items
		return nil
	})
	return taken, err
}

// One of two who found an item removes it.
func TestRemoveAndFindRace(t *testing.T) {
	db, q := backendtest.NewModel(), queue.At(backend.NewKey("q"))
	for round := range 50 {
		if err := db.Transact(t.Context(), func(tx backend.Tx) error {
			return q.Push(tx, queue.Normal, make([]byte, round*5000))
		}); err != nil {
			t.Fatal(err)
		}
		var stamp backend.Versionstamp
		if err := db.Read(t.Context(), func(tx backend.ReadTx) error {
			items, err := q.Read(tx, queue.Item{}, 1)
			stamp = items[0].Stamp
			return err
		}); err != nil {
			t.Fatal(err)
		}
		removed := make(chan bool, 4)
		for range cap(removed) {
			go func() {
				won := false
				if err := db.Transact(t.Context(), func(tx backend.Tx) error {
					item, found, err := q.Find(tx, stamp)
					if found {
						q.Remove(tx, item)
					}
					won = found
					return err
				}); err != nil {
					t.Error(err)
				}
				removed <- won
			}()
		}
		n := 0
		for range cap(removed) {
			if <-removed {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("round %d: removed %d times", round, n)
		}
	}
}

// What is stored may be damaged: that is an error, not a panic and not another item.
func TestDamageIsAnError(t *testing.T) {
	prefix := backend.NewKey("q")
	q := queue.At(prefix)
	stamp := backend.NewVersionstamp(1<<40, 0)
	lane := prefix.Int(int64(queue.Normal))
	head := []byte(chunkHead)
	for _, c := range []struct {
		name string
		rows map[string][]byte
	}{
		{"a key that is no item", map[string][]byte{string(lane.Str("x")): nil}},
		{"a cut head", map[string][]byte{string(lane.Stamp(stamp)): head}},
		{"a head of no rows", map[string][]byte{string(lane.Stamp(stamp)): append(head[:5:5], 0, 0, 0, 0)}},
		{"a head of too many rows", map[string][]byte{string(lane.Stamp(stamp)): append(head[:5:5], 255, 0, 0, 0)}},
		{"a missing last row", map[string][]byte{string(lane.Stamp(stamp)): append(head[:5:5], 0, 0, 0, 2)}},
		{"a missing row", map[string][]byte{
			string(lane.Stamp(stamp)): append(head[:5:5], 0, 0, 0, 3), string(lane.Stamp(stamp.WithOrder(2))): nil,
			string(lane.Stamp(stamp.WithOrder(3))): nil,
		}},
		{"a wrong counter", map[string][]byte{string(prefix.Int(2)): backend.CounterValue(3)}},
		{"a counter that is none", map[string][]byte{string(prefix.Int(3)): []byte("x")}},
		{"a strange key", map[string][]byte{string(prefix.Int(4)): nil}},
		{"a strange key below a counter", map[string][]byte{string(prefix.Int(2).Str("x")): nil}},
		{"a strange key before the lanes", map[string][]byte{string(prefix.Int(-1)): nil}},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := backendtest.NewModel()
			if err := db.Transact(t.Context(), func(tx backend.Tx) error {
				for key, value := range c.rows {
					tx.Set(backend.Key(key), value)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			err := db.Read(t.Context(), func(tx backend.ReadTx) error { return q.Check(tx, func(queue.Item) error { return nil }) })
			if !errors.Is(err, backend.ErrCorrupt) {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

// A push that comes before the commit makes who keeps the end run again, whatever is on the queue.
func TestAPushIsAConflictForWhoKeepsTheEnd(t *testing.T) {
	for _, waits := range []int{0, 3} {
		for _, lane := range []queue.Lane{queue.Priority, queue.Normal} {
			store := backendtest.NewStore()
			db, other, q := store.Open(), store.Open(), queue.At(backend.NewKey("q"))
			push := func(db backend.Database, lane queue.Lane) {
				err := db.Transact(t.Context(), func(tx backend.Tx) error { return q.Push(tx, lane, []byte("item")) })
				if err != nil {
					t.Fatal(err)
				}
			}
			for range waits {
				push(db, queue.Priority)
				push(db, queue.Normal)
			}
			runs := 0
			err := db.Transact(t.Context(), func(tx backend.Tx) error {
				err := q.KeepEnd(tx)
				if runs++; runs == 1 {
					push(other, lane)
				}
				tx.Set(backend.NewKey("kept"), nil)
				return err
			})
			if err != nil || runs != 2 {
				t.Errorf("with %d that wait in each lane, and a push to lane %d, it ran %d times: %v", waits, lane, runs, err)
			}
		}
	}
}
