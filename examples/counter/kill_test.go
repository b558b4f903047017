package main

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/examples/internal/child"
	"github.com/dserver-go/dserver/internal/dbtest"
)

// How often the tests kill, unless KILLS says it, and how long a process lives at most once it works.
const (
	defaultKills = 20
	longestLife  = 250 * time.Millisecond
)

func kills(t *testing.T) int { return child.Kills(t, defaultKills) }

// expect waits for a child's first line.
func expect(t *testing.T, p *child.Process, prefix string) {
	t.Helper()
	if line := p.Expect(); !strings.HasPrefix(line, prefix) {
		p.Kill()
		t.Fatalf("a child printed %q, not %q\n%s", line, prefix, p.Errors())
	}
}

// G1, G2, G3, G4: what was acknowledged takes effect once, in order, with all that belongs to it.
func TestKillLosesNothingAndDoublesNothing(t *testing.T) {
	path := dbtest.Name(t)
	moments := child.Random(t)
	var said record
	for i := 0; i < kills(t) || said.sum() < enough(t) && i < 10*kills(t); i++ { // a busy machine does little between two kills
		p := child.Start(t, roleAll, path, "life"+strconv.Itoa(i))
		if moments.IntN(4) > 0 { // else it is killed while it starts, or repairs what the one before it left
			expect(t, p, "try")
		}
		<-time.After(time.Duration(moments.Int64N(int64(longestLife))))
		p.Kill()
		said.add(t, p)
	}
	said.check(t, path)
}

// G5: a consumer's death delays an answer, and loses none.
func TestKillConsumersOnOneFileLosesNoReply(t *testing.T) {
	path := dbtest.Name(t)
	moments := child.Random(t)
	expect(t, child.Start(t, roleConsumer, path, "-"), "consuming") // this one lives
	victims := [2]*child.Process{}
	for i := range victims {
		victims[i] = child.Start(t, roleConsumer, path, "-")
	}
	sender := child.Start(t, roleSender, path, "sender")
	expect(t, sender, "try")
	for range kills(t) {
		<-time.After(time.Duration(moments.Int64N(int64(longestLife))))
		i := moments.IntN(len(victims))
		victims[i].Kill()
		victims[i] = child.Start(t, roleConsumer, path, "-")
	}
	sender.Finish() // its calls are answered, or it fails
	for _, v := range victims {
		expect(t, v, "consuming")
		v.Finish()
	}
	var said record
	said.add(t, sender)
	if !maps.Equal(said.tried, said.acknowledged) {
		t.Errorf("tried %v, acknowledged %v", said.tried, said.acknowledged)
	}
	said.check(t, path)
}

// record is what children said about their senders: the last number that was tried, and the last acknowledged.
type record struct {
	tried, acknowledged map[string]int64
}

func (r *record) add(t *testing.T, p *child.Process) {
	t.Helper()
	if r.tried == nil {
		r.tried, r.acknowledged = map[string]int64{}, map[string]int64{}
	}
	for _, line := range p.Lines() {
		words := strings.Fields(line)
		if len(words) != 3 {
			t.Fatalf("a child printed %q", line)
		}
		number, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil {
			t.Fatalf("a child printed %q", line)
		}
		if words[0] == "ack" {
			r.acknowledged[words[1]] = number
		} else {
			r.tried[words[1]] = number
		}
	}
	for line := range strings.Lines(p.Errors()) {
		// On a slow machine one message may be in the hands of several processes that are killed, one after the other.
		if !strings.Contains(line, "its next message may have killed consumers") {
			t.Errorf("a child complained: %s", line)
		}
	}
}

// sum is how many messages were acknowledged.
func (r *record) sum() (n int64) {
	for _, last := range r.acknowledged {
		n += last
	}
	return n
}

// enough is how many messages prove something.
func enough(t *testing.T) int64 { return int64(2 * kills(t)) }

// check compares the ledgers and the counter with what was said, after everything that is stored was handled.
func (r *record) check(t *testing.T, path string) {
	t.Helper()
	db, err := open.Database(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	defer serve(t, func(ctx context.Context) error { return dserver.Run(ctx, db, Counters, ledgers) })()

	var total int64
	found := map[string]account{}
	for i := range ledgerCount {
		l := ledgers.At(db, strconv.Itoa(i))
		if _, err := dserver.Call(ctx, l, settle{}); err != nil {
			t.Fatal(err)
		}
		state, err := l.State(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for name, a := range state.Senders {
			found[name] = a
			total += a.Count
		}
	}
	for _, complaint := range r.complaints(found) {
		t.Error(complaint)
	}
	n, err := dserver.Call(ctx, Counters.At(db, visits), Value{})
	if err != nil {
		t.Fatal(err)
	}
	if n != total {
		t.Errorf("the ledgers sent %d increments, the counter counted %d", total, n)
	}
	if err := dserver.Check(ctx, db, Counters, ledgers); err != nil {
		t.Error(err)
	}
	t.Logf("%d senders, %d messages that took effect", len(found), total)
	if total < enough(t) {
		t.Errorf("only %d messages were sent between %d kills: this proves little", total, kills(t))
	}
}

// complaints compares each sender's account with what the sender said: everything up to what was acknowledged took
// effect once, and nothing more but perhaps the message, or the whole batch, that was on its way.
func (r *record) complaints(found map[string]account) (all []string) {
	for name, a := range found {
		acknowledged, tried := r.acknowledged[name], r.tried[name]
		switch {
		case len(a.Strange) > 0 || a.Count != a.Last:
			all = append(all, fmt.Sprintf("%s: %d messages took effect, the last was %d, and these came out of order: %v", name, a.Count, a.Last, a.Strange))
		case a.Last != acknowledged && a.Last != tried:
			all = append(all, fmt.Sprintf("%s: %d messages took effect; %d were acknowledged, %d tried", name, a.Last, acknowledged, tried))
		}
	}
	for name, acknowledged := range r.acknowledged {
		if _, ok := found[name]; !ok {
			all = append(all, fmt.Sprintf("%s: %d messages were acknowledged and none took effect", name, acknowledged))
		}
	}
	return all
}

// serve runs a consumer until the function that it returns is called.
func serve(t *testing.T, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}
