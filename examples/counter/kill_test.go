package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/dbtest"
)

// How often the tests kill, and how long a process lives at most once it works.
const (
	defaultKills = 20
	longestLife  = 250 * time.Millisecond
)

func kills(t *testing.T) int {
	text := os.Getenv("KILLS")
	if text == "" {
		return defaultKills
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("KILLS=%q is no number of kills", text)
	}
	return n
}

// random gives the moments of the kills. The seed is printed when the test fails; SEED sets it.
func random(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("SEED=%q is no number", text)
		}
		seed = n
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the same moments again: SEED=%d KILLS=%d go test -count=1 -run '^%s$' ./examples/counter", seed, kills(t), t.Name())
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// G1, G2, G3, G4: what was acknowledged takes effect once, in order, with all that belongs to it.
func TestKillLosesNothingAndDoublesNothing(t *testing.T) {
	path := dbtest.Name(t)
	moments := random(t)
	var said record
	for i := 0; i < kills(t) || said.sum() < enough(t) && i < 10*kills(t); i++ { // a busy machine does little between two kills
		child := start(t, roleAll, path, "life"+strconv.Itoa(i))
		if moments.IntN(4) > 0 { // else it is killed while it starts, or repairs what the one before it left
			child.expect("try")
		}
		<-time.After(time.Duration(moments.Int64N(int64(longestLife))))
		child.kill()
		said.add(t, child)
	}
	said.check(t, path)
}

// G5: a consumer's death delays an answer, and loses none.
func TestKillConsumersOnOneFileLosesNoReply(t *testing.T) {
	path := dbtest.Name(t)
	moments := random(t)
	start(t, roleConsumer, path, "-").expect("consuming") // this one lives
	victims := [2]*process{}
	for i := range victims {
		victims[i] = start(t, roleConsumer, path, "-")
	}
	sender := start(t, roleSender, path, "sender")
	sender.expect("try")
	for range kills(t) {
		<-time.After(time.Duration(moments.Int64N(int64(longestLife))))
		i := moments.IntN(len(victims))
		victims[i].kill()
		victims[i] = start(t, roleConsumer, path, "-")
	}
	sender.finish() // its calls are answered, or it fails
	for _, v := range victims {
		v.expect("consuming")
		v.finish()
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

func (r *record) add(t *testing.T, child *process) {
	t.Helper()
	if r.tried == nil {
		r.tried, r.acknowledged = map[string]int64{}, map[string]int64{}
	}
	for _, line := range child.output() {
		words := strings.Fields(line)
		if len(words) != 3 {
			t.Fatalf("a %s printed %q", child.role, line)
		}
		number, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil {
			t.Fatalf("a %s printed %q", child.role, line)
		}
		if words[0] == "ack" {
			r.acknowledged[words[1]] = number
		} else {
			r.tried[words[1]] = number
		}
	}
	if child.errors.Len() > 0 {
		t.Errorf("a %s complained:\n%s", child.role, &child.errors)
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
