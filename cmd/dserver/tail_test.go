package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// running is the tool as it prints, until the test interrupts it.
type running struct {
	t       *testing.T
	command *exec.Cmd
	lines   chan string
	errs    strings.Builder
}

// begin runs the tool in a directory.
func begin(t *testing.T, dir string, args ...string) *running {
	t.Helper()
	program, err := os.Executable()
	must(t, err)
	r := &running{t: t, command: exec.Command(program, append([]string{"--db", "app.db"}, args...)...), lines: make(chan string, 1000)}
	r.command.Dir = dir
	r.command.Env = append(os.Environ(), "TZ=UTC", "GORACE=atexit_sleep_ms=0", asTool+"=1")
	r.command.Stderr = &r.errs
	out, err := r.command.StdoutPipe()
	must(t, err)
	must(t, r.command.Start())
	go func() {
		defer close(r.lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			r.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() { _ = r.command.Process.Kill() })
	return r
}

// line is the next that it prints.
func (r *running) line() string {
	r.t.Helper()
	select {
	case line, ok := <-r.lines:
		if !ok {
			r.t.Fatalf("the tool has ended: %s", &r.errs)
		}
		return line
	case <-time.After(2 * time.Minute):
		r.t.Fatal("the tool prints nothing")
	}
	return ""
}

// interrupt is Ctrl-C: the tool ends, and that is no failure.
func (r *running) interrupt() {
	r.t.Helper()
	must(r.t, r.command.Process.Signal(os.Interrupt))
	for range r.lines {
	}
	if err := r.command.Wait(); err != nil || r.errs.Len() != 0 {
		r.t.Errorf("the tool ended with %v: %s", err, &r.errs)
	}
}

func TestStateIsFollowed(t *testing.T) {
	dir, db := start(t)
	visits := counters.At(db, "visits")
	people, program := begin(t, dir, "state", "--follow", "counter/visits"), begin(t, dir, "--json", "state", "--follow", "counter/visits")
	expect := func(asJSON string, lines ...string) {
		t.Helper()
		if got := program.line(); got != asJSON {
			t.Fatalf("it printed %s, not %s", got, asJSON)
		}
		for i, want := range append([]string{"2026-01-02 03:04:05.678 +0000"}, lines...) {
			if got := steady(people.line(), new([]string)); got != want {
				t.Fatalf("line %d is %q, not %q", i, got, want)
			}
		}
	}
	expect("null", "no state")
	must(t, visits.Call(t.Context(), add{By: 2}, nil))
	expect(`{"Count":2}`, "{", `  "Count": 2`, "}")
	must(t, visits.Call(t.Context(), add{By: 40}, nil))
	expect(`{"Count":42}`, "{", `  "Count": 42`, "}")
	must(t, visits.Reset(t.Context()))
	expect("null", "no state")
	people.interrupt()
	program.interrupt()
}

// What the tool prints of messages that wait, that come, are withdrawn, set aside and handled, and of a server that halts.
func TestTailPrintsWhatBecomesOfMessages(t *testing.T) {
	dir, db := start(t)
	ctx := t.Context()
	letters := mailboxes.At(db, "ada") // nobody handles them
	must(t, letters.Cast(ctx, letter1{From: "Bob", Text: "hello"}))
	mail := begin(t, dir, "tail", "mailbox/ada", "--every", "10ms")
	expect := func(from *running, parts ...string) {
		t.Helper()
		line := from.line()
		for _, part := range parts {
			if !strings.Contains(line, part) {
				t.Fatalf("it printed %q, without %q", line, part)
			}
		}
	}
	expect(mail, "  waits      ", "  letter  ", `"From":"Bob"`)
	must(t, letters.Cast(ctx, letter1{From: "Eve"}))
	expect(mail, "  queued     ", "  letter  ", `"From":"Eve"`)
	for q, err := range letters.Queue(ctx) {
		must(t, err)
		must(t, letters.Withdraw(ctx, q.Stamp))
		expect(mail, "  gone       "+q.Stamp.String())
	}
	must(t, letters.Pause(ctx))
	expect(mail, "  status     paused")
	must(t, letters.Resume(ctx))
	expect(mail, "  status     goes on")
	mail.interrupt()

	halting := orders.At(db, "1")
	must(t, halting.Cast(ctx, explode{}))
	eventually(t, "it halts", func() bool { return statusOf(t, db, halting.Ref()).Halted })
	order := begin(t, dir, "--json", "tail", "order/1", "--every", "10ms", "--state")
	seen := func(want string) (e event) {
		t.Helper()
		for e.Event != want {
			if err := json.Unmarshal([]byte(order.line()), &e); err != nil {
				t.Fatal(err)
			}
		}
		return e
	}
	if e := seen("waits"); e.Queued == nil || e.Queued.Message != "explode" {
		t.Errorf("%+v", e)
	}
	if e := seen("status"); e.Status == nil || !e.Status.Halted {
		t.Errorf("%+v", e)
	}
	for q, err := range halting.Queue(ctx) {
		must(t, err)
		must(t, halting.Withdraw(ctx, q.Stamp))
	}
	if e := seen("gone"); e.Queued == nil || e.Queued.Message != "explode" {
		t.Errorf("%+v", e)
	}
	must(t, halting.Call(ctx, add{By: 3}, nil))
	for e := seen("state"); fmt.Sprint(e.State) != "map[Count:3]"; e = seen("state") {
		if e.State != nil {
			t.Fatalf("%+v", e)
		}
	}
	order.interrupt()
}

// A message that fails under the eyes of the tool is set aside with its error; one that it has not seen on the queue is counted.
func TestTailPrintsWhatIsSetAside(t *testing.T) {
	dir, db := start(t)
	ctx := t.Context()
	visits := counters.At(db, "visits")
	must(t, visits.Cast(ctx, explode{})) // is tried again and again
	eventually(t, "it waits", func() bool { return statusOf(t, db, visits.Ref()).Attempts > 0 })
	out := begin(t, dir, "tail", "counter/visits", "--every", "10ms")
	until := func(what string) string {
		t.Helper()
		for {
			if line := out.line(); strings.Contains(line, what) {
				return line
			}
		}
	}
	until("  waits      ")
	until("failing, attempts: ")
	must(t, visits.Cast(ctx, refuse{Why: "no more"}))
	until("  queued     ")
	for q, err := range visits.Queue(ctx) { // the first goes, and the next is refused
		must(t, err)
		must(t, visits.Withdraw(ctx, q.Stamp))
		break
	}
	until("  gone       ")
	if line := until("  set aside  "); !strings.Contains(line, "  refuse  it was refused: no more") {
		t.Errorf("it printed %q", line)
	}
	must(t, visits.Cast(ctx, refuse{Why: "at once"})) // joins a turn, and is on no queue
	if line := until("  set aside  "); !strings.HasSuffix(line, "1 that were not seen on the queue; dserver --db app.db dead counter/visits lists them") {
		t.Errorf("it printed %q", line)
	}
	out.interrupt()
	if s := statusOf(t, db, visits.Ref()); s.DeadLetters != 2 || s.Queued > 0 {
		t.Errorf("%+v", s)
	}
}

// Of a type is printed what becomes of the messages of all its servers that have something to do, those that come later as well,
// and of no others.
func TestTailOfATypePrintsWhatBecomesOfItsMessages(t *testing.T) {
	dir, db := start(t)
	ctx := t.Context()
	ada, bob := mailboxes.At(db, "ada"), mailboxes.At(db, "bob smith")
	must(t, ada.Cast(ctx, letter1{From: "first"}))
	must(t, counters.At(db, "else").Cast(ctx, explode{}))
	out, program := begin(t, dir, "tail", "mailbox", "--every", "10ms"), begin(t, dir, "--json", "tail", "mailbox", "--every", "10ms")
	expect := func(server, event, part string) {
		t.Helper()
		if line := out.line(); !strings.Contains(line, "  "+fmt.Sprintf("%-9s", event)+"  "+word(server)+"  ") || !strings.Contains(line, part) {
			t.Fatalf("it printed %q, not %s of %s with %q", line, event, server, part)
		}
		var e event1
		if err := json.Unmarshal([]byte(program.line()), &e); err != nil || e.Server != server || e.Event != event {
			t.Fatalf("it printed %+v, %v", e, err)
		}
	}
	expect("mailbox/ada", "waits", `"From":"first"`)
	must(t, bob.Cast(ctx, letter1{From: "second"})) // it had nothing before
	expect("mailbox/bob smith", "queued", `"From":"second"`)
	for q, err := range bob.Queue(ctx) {
		must(t, err)
		must(t, bob.Withdraw(ctx, q.Stamp))
	}
	expect("mailbox/bob smith", "gone", "letter")
	must(t, bob.Cast(ctx, letter1{From: "third"})) // it was at rest
	expect("mailbox/bob smith", "queued", `"From":"third"`)
	must(t, ada.Pause(ctx))
	expect("mailbox/ada", "status", "paused")
	out.interrupt()
	program.interrupt()

	halting := begin(t, dir, "tail", "order", "--every", "10ms")
	counting := begin(t, dir, "tail", "counter", "--every", "10ms")
	until := func(from *running, what string) string {
		t.Helper()
		for {
			if line := from.line(); strings.Contains(line, what) {
				return line
			}
		}
	}
	must(t, orders.At(db, "1").Cast(ctx, explode{}))
	until(halting, "  order/1  halted, attempts: 1")
	until(counting, "  counter/else  failing, attempts: ")
	must(t, counters.At(db, "new").Cast(ctx, refuse{Why: "at once"})) // it joins a turn, and is on no queue
	until(counting, "  counter/new  1 that were not seen on the queue")
	halting.interrupt()
	counting.interrupt()
}

type event1 struct{ Server, Event string }

// However many servers of a type have something to do, only so many are looked at, and that is said.
func TestTailOfATypeHasABound(t *testing.T) {
	_, db := start(t)
	var all sync.WaitGroup
	for id := range maxTailed + 5 {
		all.Go(func() {
			if err := mailboxes.At(db, fmt.Sprint(id)).Cast(t.Context(), letter1{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	var errs strings.Builder
	l := &typeTail{tail: &tail{tool: &tool{db: db, out: printer{errs: &errs}}, ref: dserver.Ref{Type: "mailbox"}}, known: map[dserver.Ref]*tail{}}
	for range 2 {
		if _, err := l.look(t.Context()); err != nil || len(l.known) != maxTailed {
			t.Errorf("%d servers, %v", len(l.known), err)
		}
	}
	if n := strings.Count(errs.String(), "not all are looked at"); n != 1 {
		t.Errorf("it was said %d times: %s", n, &errs)
	}
}
