package consumer

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// unstaffed is a consumer without workers, so that a test takes servers and ends their turns by itself.
func unstaffed(bounds map[string]int) *consumer {
	var defs []*turn.Definition
	for typ, turns := range bounds {
		def := define()
		def.Name, def.Settings.Turns = typ, turns
		defs = append(defs, def)
	}
	c := newConsumer(backendtest.NewModel(), Options{}, defs...)
	c.max = 0
	return c
}

// queues is what a test knows of the servers that wait and are in hand.
type queues struct {
	c       *consumer
	waiting []*server // first come first
	inHand  []*server
}

func (q *queues) of(typ string) (n int) {
	for _, s := range q.inHand {
		if s.def.Name == typ {
			n++
		}
	}
	return n
}

// isBlocked reports whether the type of a server has its number in hand.
func (q *queues) isBlocked(s *server) bool {
	bound := s.def.Settings.Turns
	return bound > 0 && q.of(s.def.Name) >= bound
}

func (q *queues) wake(typ, id string) {
	s := q.c.server(tenant.Ref{Type: typ, ID: id})
	if !s.scheduled {
		q.c.schedule(s)
		q.waiting = append(q.waiting, s)
	}
}

// take is what a worker does. It returns what is wrong with the choice.
func (q *queues) take() error {
	s := q.c.runnable.pop()
	if s == nil {
		if i := slices.IndexFunc(q.waiting, func(s *server) bool { return !q.isBlocked(s) }); i >= 0 {
			return fmt.Errorf("%v waits for nothing", q.waiting[i].ref())
		}
		return nil
	}
	if q.isBlocked(s) {
		return fmt.Errorf("%v is one too many", s.ref())
	}
	at := slices.Index(q.waiting, s)
	if at < 0 {
		return fmt.Errorf("%v was not waiting", s.ref())
	}
	for _, other := range q.waiting[:at] {
		if other.def.Name == s.def.Name || other.def.Settings.Turns == 0 {
			return fmt.Errorf("%v passed %v", s.ref(), other.ref())
		}
	}
	q.waiting = slices.Delete(q.waiting, at, at+1)
	q.inHand = append(q.inHand, s)
	return nil
}

// end ends a turn, after which the server may want another.
func (q *queues) end(i int, again bool) {
	s := q.inHand[i]
	q.inHand = slices.Delete(q.inHand, i, i+1)
	s.look = again
	q.c.settle(q.c.visit(s, 1), nextTurn{})
	if again {
		q.waiting = append(q.waiting, s)
	}
}

func (q *queues) check() error {
	if n := q.c.waiting(); n != len(q.waiting) {
		return fmt.Errorf("%d servers wait, not %d", n, len(q.waiting))
	}
	for typ, t := range q.c.types {
		if t.most == 0 && t.line.len+t.inHand > 0 {
			return fmt.Errorf("%s, which has no bound, has a line of %d and %d shares in hand", typ, t.line.len, t.inHand)
		}
		if t.line.len > 0 && t.inHand < t.most {
			return fmt.Errorf("a share of %s is free, and %d wait for it", typ, t.line.len)
		}
	}
	return nil
}

// Whatever happens in whatever order, no type has more servers in hand than its number, none waits while it could have its
// turn, and none is passed but while its type has its number.
func TestSharesAreAsTheirModel(t *testing.T) {
	bounds := map[string]int{"free": 0, "two": 2, "one": 1}
	types := []string{"free", "two", "one"}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, seed))
		q := &queues{c: unstaffed(bounds)}
		for range 300 {
			var err error
			switch n := len(q.inHand); {
			case r.IntN(3) == 0:
				q.wake(types[r.IntN(len(types))], fmt.Sprint(r.IntN(5)))
			case n > 0 && r.IntN(2) == 0:
				q.end(r.IntN(n), r.IntN(3) == 0)
			default:
				err = q.take()
			}
			if err = cmp.Or(err, q.check()); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		for len(q.waiting)+len(q.inHand) > 0 { // all of it comes to an end
			err := q.take()
			if n := len(q.inHand); err == nil && n > 0 {
				q.end(r.IntN(n), false)
			}
			if err = cmp.Or(err, q.check()); err != nil {
				t.Fatalf("seed %d, at the end: %v", seed, err)
			}
		}
		for typ, of := range q.c.types {
			if of.inHand != 0 {
				t.Fatalf("seed %d: %d shares of %s are in nobody's hand", seed, of.inHand, typ)
			}
		}
	}
}

// A look at a shard passes a type by whose line is long, wakes the others, and looks again when there is room.
func TestLongLineIsPassedBy(t *testing.T) {
	q := &queues{c: unstaffed(map[string]int{"free": 0, "one": 1})}
	for i := range maxRunnable + 1 {
		q.wake("one", fmt.Sprint(i))
	}
	if err := q.take(); err != nil {
		t.Fatal(err)
	}
	if s := q.c.runnable.pop(); s != nil { // a worker finds that all others wait for a share
		t.Fatalf("%v is one too many", s.ref())
	}
	var marked []tenant.Ref
	for _, typ := range []string{"free", "one"} {
		for _, id := range []string{"came", "as well"} {
			marked = append(marked, tenant.Ref{Type: typ, ID: id})
		}
	}
	mark(t, q.c.DB, marked...)
	line := q.c.types["one"].line.len
	full := ""
	for _, shard := range q.c.shards() {
		full = cmp.Or(scanned(t, q.c, shard).full, full)
	}
	if q.c.types["one"].line.len != line || full != "one" {
		t.Errorf("%d more wait in a line that is long, and %q is told", q.c.types["one"].line.len-line, full)
	}
	for range 2 {
		if s := q.c.runnable.pop(); s == nil || s.def.Name != "free" {
			t.Errorf("the other type's server was not woken, but %v", s)
		}
	}
	for range maxRunnable/2 + 2 {
		q.end(0, false)
		if err := q.take(); err != nil {
			t.Fatal(err)
		}
	}
	line = q.c.types["one"].line.len
	if q.c.pause(t.Context(), look{watch: scanned(t, q.c, tenant.ShardOf(marked[0])).watch, full: "one"}, time.Hour); q.c.isLong("one") {
		t.Error("there is room, and none is let in")
	}
	for _, ref := range marked[2:] {
		scanned(t, q.c, tenant.ShardOf(ref))
	}
	if came := q.c.types["one"].line.len - line; came != 2 {
		t.Errorf("there is room, and %d came", came)
	}
}

// mark sets the ready marks of servers.
func mark(t *testing.T, db backend.Database, servers ...tenant.Ref) {
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		for _, ref := range servers {
			tenant.SetReady(tx, ref)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func scanned(t *testing.T, c *consumer, shard int64) look {
	l, err := c.scanOnce(t.Context(), shard, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.watch.Cancel)
	return l
}

// When a consumer closes, who waits for a share has none in the end, and none is lost.
func TestClosingConsumerLetsLinesGo(t *testing.T) {
	q := &queues{c: unstaffed(map[string]int{"free": 0, "one": 1})}
	for i := range 4 {
		q.wake("one", fmt.Sprint(i))
		q.wake("free", fmt.Sprint(i))
	}
	for range 5 {
		if err := q.take(); err != nil {
			t.Fatal(err)
		}
	}
	one := slices.IndexFunc(q.inHand, func(s *server) bool { return s.def.Name == "one" })
	q.end(one, false) // the next has the share, and no worker yet
	ref := q.c.types["one"].line.first.ref()
	end := newGuest(toil, nil, true)
	end.Released = new(turn.Release)
	if !q.c.offerRelease(ref, end) {
		t.Fatal("it was not let in")
	}
	q.c.close()
	left := q.c.runnable.pop()
	if left == nil || left.ref() != ref || q.c.runnable.pop() != nil {
		t.Fatalf("what is left is not the end of locked work, but %v", left)
	}
	left.arrivals = nil // its turn has it
	q.c.settle(q.c.visit(left, 1), nextTurn{})
	if t1 := q.c.types["one"]; t1.inHand != 0 || t1.line.len != 0 || q.c.waiting() != 0 {
		t.Errorf("%d shares in hand, a line of %d, %d waiting", t1.inHand, t1.line.len, q.c.waiting())
	}
}

// A look at a label's rows, which is one for all types, does not wait for a long line, and wakes the others.
func TestLongLineDoesNotStopALookAtALabel(t *testing.T) {
	q := &queues{c: unstaffed(map[string]int{"free": 0, "one": 1})}
	for i := range maxRunnable + 2 {
		q.wake("one", fmt.Sprint(i))
	}
	for range 2 { // all but the first are in the line
		if err := q.take(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := q.c.DB.Transact(ctx, func(tx backend.Tx) error {
		tenant.SetCalled(tx, tenant.Ref{Type: "one", ID: "called"}, "")
		tenant.SetCalled(tx, tenant.Ref{Type: "free", ID: "called"}, "")
		tenant.SetCalled(tx, tenant.Ref{Type: "one", ID: "called as well"}, "")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	look, err := q.c.scanLabelOnce(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	look.watch.Cancel()
	if s := q.c.runnable.pop(); s == nil || s.def.Name != "free" {
		t.Errorf("the other type's server was not woken, but %v", s)
	}
}

// A line is let go while its share is in the hand of a turn that goes on.
func TestClosingConsumerLetsALineGoAtOnce(t *testing.T) {
	q := &queues{c: unstaffed(map[string]int{"one": 1})}
	for i := range 3 {
		q.wake("one", fmt.Sprint(i))
	}
	if err := q.take(); err != nil {
		t.Fatal(err)
	}
	q.c.close()
	if n := q.c.waiting(); n != 0 {
		t.Errorf("%d wait", n)
	}
}
