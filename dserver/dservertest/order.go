package dservertest

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// EachOrder runs a small program in each order in which its senders can send and its servers can handle, and time can
// pass in between. The program starts its types and its senders, runs, and checks what came of it:
//
//	dservertest.EachOrder(t, func(t *testing.T, o *dservertest.Order) {
//		db := o.Start(Accounts)
//		o.Go("alice", func(ctx context.Context) error { return Accounts.At(db, "a").Cast(ctx, Deposit{5}) })
//		o.Go("bob", func(ctx context.Context) error { return Accounts.At(db, "a").Cast(ctx, Deposit{7}) })
//		o.Run()
//		// every order has come to its end here
//	})
//
// A step is a commit or a read of a sender, a message that a server handles, or the passing of time until the next timer
// or delayed message is due. Which steps follow each other is decided at each point where several could, first one way
// and then the others. So the number of orders grows fast: a program of ten steps has hundreds or thousands. The
// test fails when there are more than 5,000.
//
// The program must do the same in the same order: nothing random may decide what it sends and stores, and no iteration
// over a map. That is noticed. Orders are compared as far as they begin alike, and a few are run once more, until each
// step of a name (who sends, which server handles what) was compared: after it the states of all servers, the messages
// that wait and the dead letters must be what they were. So rand.Int() in a handler is found, unless the handler comes to it in few
// orders alone. Words as those of crypto/rand.Text are not compared, as idempotency keys and addresses of callers are
// such.
//
// The first order that fails ends the test, and prints its steps and how to run it alone. Each order is run in a
// synctest bubble of its own.
func EachOrder(t *testing.T, program func(t *testing.T, o *Order)) {
	t.Helper()
	path, alone := givenOrder(t)
	var same []moment             // as in the order before
	compared := map[string]bool{} // steps
	run := func() *Order {
		o := &Order{path: path, same: same}
		synctest.Test(t, func(t *testing.T) {
			o.t = t
			t.Cleanup(o.tell)
			program(t, o)
		})
		return o
	}
	for n := 1; ; n++ {
		o := run()
		if o.note(compared); !alone && !o.areAll(compared) {
			same = o.moments
			o = run()
			o.note(compared)
		}
		var more bool
		if path, same, more = o.next(); !more || alone {
			t.Logf("dservertest: %d orders", n)
			return
		}
		if n == mostOrders {
			t.Fatalf("dservertest: the program has more than %d orders: make it smaller", mostOrders)
		}
	}
}

const (
	mostOrders     = 5000
	mostOrderSteps = 1000
	orderVariable  = "DSERVER_ORDER"

	// longestWait is how long, in the bubble's time, an order may have nothing to decide while somebody waits.
	longestWait = time.Hour
)

// givenOrder is the order that the environment asks for.
func givenOrder(t *testing.T) (path []int, ok bool) {
	text := os.Getenv(orderVariable)
	if text == "" {
		return nil, false
	}
	for word := range strings.SplitSeq(text, ".") {
		n, err := strconv.Atoi(word)
		if err != nil {
			t.Fatalf("dservertest: %s=%q is no order", orderVariable, text)
		}
		path = append(path, n)
	}
	return path, true
}

// Order is one order of a program.
type Order struct {
	t       *testing.T
	hand    *Hand
	senders []*sender
	path    []int // what was chosen so far, and what is to be chosen

	choices []choice
	moments []moment
	same    []moment // with which it must begin
	trace   trace
}

// choice is one of several steps that could have come next.
type choice struct {
	chosen, of int
	moment     int // its number
}

// Start opens a database in memory, whose types are served step by step while Run runs.
func (o *Order) Start(types ...dserver.Type) backend.Database {
	o.t.Helper()
	if o.hand != nil {
		o.t.Fatal("dservertest: Order.Start is called twice")
	}
	o.hand = &Hand{t: o.t, DB: &gate{Database: open(o.t, types)}}
	o.hand.serve(&o.trace, types)
	return o.hand.DB
}

// Drain handles what the test itself has sent, in the order of sending, as Hand.Drain does: a program begins with it when
// its orders are to begin with the states that this makes.
func (o *Order) Drain() {
	o.t.Helper()
	o.hand.Drain()
}

// Go starts a sender, whose steps begin with Run. It sends and reads with the context that it is given, and Start's
// database. An error that it returns fails the test.
func (o *Order) Go(name string, fn func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &sender{name: name, parked: make(chan string), proceed: make(chan struct{}), ended: make(chan struct{})}
	o.senders = append(o.senders, s)
	o.t.Cleanup(func() {
		cancel()
		<-s.ended
	})
	go func() {
		defer close(s.ended) // also when fn ends its goroutine
		if err := fn(context.WithValue(ctx, senderKey{}, s)); err != nil && ctx.Err() == nil {
			o.t.Errorf("dservertest: %s: %v", name, err)
		}
	}()
}

// Run runs all steps of one order, until the senders have ended and nothing is queued or due.
func (o *Order) Run() {
	o.t.Helper()
	if o.hand == nil {
		o.t.Fatal("dservertest: Order.Run is called before Order.Start")
	}
	for range mostOrderSteps {
		steps, waits := o.steps()
		switch {
		case len(steps) > 0:
			o.look(steps)
			step := steps[o.choose(len(steps))]
			o.moments[len(o.moments)-1].step = step.what
			o.trace.add(step.what)
			step.do()
		case waits == "":
			o.look(nil)
			return
		case !o.wait(longestWait):
			o.t.Fatalf("dservertest: %s waits, and nothing happens", waits)
		}
	}
	o.t.Fatalf("dservertest: the program does not end within %d steps", mostOrderSteps)
}

// step is what can happen next.
type step struct {
	what string
	do   func()
}

// steps is all that can happen next, in an order that is always the same. Without any, waits tells who waits for time
// to pass, if anybody does.
func (o *Order) steps() (steps []step, waits string) {
	synctest.Wait() // until all senders and all locked work are as far as they get
	for _, s := range o.senders {
		switch doing, running := s.look(); {
		case doing != "":
			steps = append(steps, step{s.name + " " + doing, s.goOn})
		case running:
			waits = s.name
		}
	}
	for _, r := range o.hand.ready() {
		what := fmt.Sprintf("%v handles %s", r.Ref, r.Message)
		steps = append(steps, step{what, func() { o.hand.steps.Step(r) }})
	}
	works := o.hand.steps.Works()
	if works {
		waits = "locked work"
	}
	due, err := o.hand.steps.Due()
	o.hand.must(err)
	if works && len(steps) == 0 && time.Until(due) > 0 {
		steps = append(steps, step{"locked work goes on", func() { o.wait(time.Until(due)) }})
	}
	if !due.IsZero() {
		steps = append(steps, step{"time passes", func() { o.pass(due) }})
	}
	return steps, waits
}

// look notes the moment before one of some steps, and compares it.
func (o *Order) look(steps []step) {
	o.t.Helper()
	m, n := o.hand.moment(steps), len(o.moments)
	o.moments = append(o.moments, m)
	if n >= len(o.same) {
		return
	}
	if what := m.differs(o.same[n]); what != "" {
		o.t.Fatalf("dservertest: the program is not the same in the same order: something random decides, or the order of a map:\n%s", what)
	}
}

// note notes the steps that were compared.
func (o *Order) note(compared map[string]bool) {
	for i := range min(len(o.same), len(o.moments)) - 1 {
		compared[o.moments[i].step] = true
	}
}

// areAll reports whether all steps were compared, in this order or another.
func (o *Order) areAll(compared map[string]bool) bool {
	return !slices.ContainsFunc(o.moments, func(m moment) bool { return m.step != "" && !compared[m.step] })
}

// choose decides which of n steps is taken: as the path says, and after its end the first.
func (o *Order) choose(n int) int {
	if n == 1 {
		return 0
	}
	chosen, at := 0, len(o.choices)
	if at < len(o.path) {
		chosen = o.path[at]
	}
	if chosen >= n {
		o.t.Fatalf("dservertest: the program is not the same in the same order: at choice %d it has %d steps", at+1, n)
	}
	o.choices = append(o.choices, choice{chosen, n, len(o.moments) - 1})
	return chosen
}

// next is the path of the next order: the last choice that has another alternative takes it. Until then it is the same.
func (o *Order) next() (path []int, same []moment, more bool) {
	for i, c := range slices.Backward(o.choices) {
		if c.chosen+1 < c.of {
			for _, before := range o.choices[:i] {
				path = append(path, before.chosen)
			}
			return append(path, c.chosen+1), o.moments[:c.moment+1], true
		}
	}
	return nil, nil, false
}

// pass lets time pass until something is due, and moves it to its queue.
func (o *Order) pass(due time.Time) {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	<-timer.C
	o.hand.must(o.hand.steps.Move())
}

// wait lets time pass until a sender does something or locked work ends, or the time is over.
func (o *Order) wait(limit time.Duration) (happened bool) {
	over := time.After(limit)
	for {
		select {
		case <-o.hand.steps.Woken():
			return true
		case <-over:
			return false
		case <-time.After(time.Second):
		}
		synctest.Wait()
		for _, s := range o.senders {
			if s.over {
				continue
			}
			if doing, running := s.look(); doing != "" || !running {
				return true
			}
		}
	}
}

// tell prints the order when it has failed.
func (o *Order) tell() {
	if !o.t.Failed() {
		return
	}
	words := make([]string, len(o.choices))
	for i, c := range o.choices {
		words[i] = strconv.Itoa(c.chosen)
	}
	if len(words) == 0 {
		words = []string{"0"}
	}
	o.t.Logf("the order was:\n\t%s\nreplay: %s=%s go test -run '^%s$'",
		&o.trace, orderVariable, strings.Join(words, "."), o.t.Name())
}
