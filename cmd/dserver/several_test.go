package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// Messages that wait for many servers are edited and deleted by one command, which leaves what the filter does not take.
func TestMessagesThatWaitForManyServersAreEditedAndDeleted(t *testing.T) {
	dir, db := start(t)
	var refs []dserver.Ref
	for id := range 3 {
		srv := mailboxes.At(db, fmt.Sprint(id))
		must(t, srv.CastAll(t.Context(), []any{letter1{From: "Bob"}, ask{Question: "why"}}))
		refs = append(refs, srv.Ref())
	}
	halted := orders.At(db, "1")
	must(t, halted.Cast(t.Context(), explode{}))
	eventually(t, "it halts", func() bool { return statusOf(t, db, halted.Ref()).Halted })
	waits := func() (names []string) {
		for _, ref := range append(refs, halted.Ref()) {
			for q, err := range ref.At(db).Queue(t.Context()) {
				must(t, err)
				names = append(names, ref.ID+" "+q.Message.Name)
			}
		}
		return names
	}
	before := waits()
	for _, args := range [][]string{
		{"delete", "--everywhere", "--all", "--dry-run"}, {"edit", "--type", "mailbox", "--queued", "--message", "ask", "--name", "asked", "--dry-run"},
	} {
		if out := succeed(t, dir, args...); !strings.Contains(out, "would ") || !slices.Equal(waits(), before) {
			t.Errorf("%v: %s", args, out)
		}
	}
	if _, stderr, code := dserverTool(t, dir, "--db", "app.db", "delete", "--everywhere", "--all"); code != exitFailed ||
		!strings.Contains(stderr, "with --yes it will take all messages that are chosen off the queue of all servers") || !slices.Equal(waits(), before) {
		t.Errorf("without --yes: exit code %d, %s", code, stderr)
	}
	if out := succeed(t, dir, "edit", "--type", "mailbox", "--queued", "--message", "ask", "--name", "asked"); strings.Count(out, "changed in its place") != 3 {
		t.Errorf("it said %s", out)
	}
	if want := []string{"0 letter", "0 asked", "1 letter", "1 asked", "2 letter", "2 asked", "1 explode"}; !slices.Equal(waits(), want) {
		t.Errorf("there wait %q", waits())
	}
	if out := succeed(t, dir, "delete", "--type", "mailbox", "--message", "letter", "--yes"); strings.Count(out, "deleted ") != 3 || !strings.Contains(out, "queue of mailbox/2") {
		t.Errorf("it said %s", out)
	}
	if want := []string{"0 asked", "1 asked", "2 asked", "1 explode"}; !slices.Equal(waits(), want) {
		t.Errorf("there wait %q", waits())
	}
	succeed(t, dir, "delete", "--everywhere", "--all", "--yes")
	if got := waits(); len(got) > 0 {
		t.Errorf("there wait %q", got)
	}
	_, stderr, code := dserverTool(t, dir, "--db", "app.db", "delete", "--everywhere", "--all", "--yes")
	if code != exitFailed || !strings.Contains(stderr, "nothing that waits for all servers is so") {
		t.Errorf("of nothing: exit code %d, %s", code, stderr)
	}
	for _, args := range [][]string{
		{"delete", "--all"}, {"delete", "mailbox/1", "--everywhere", "--all"}, {"delete", "--type", "mailbox"}, {"delete", "mailbox/1"},
		{"edit", "--type", "mailbox", "--queued", "--code", "x", "--name", "y"}, {"edit", "--type", "mailbox", "--queued", "--all", "--name", "y", "--priority"},
	} {
		if stdout, stderr, code := dserverTool(t, dir, append([]string{"--db", "app.db"}, args...)...); code != exitUsage {
			t.Errorf("%v: exit code %d, %s%s", args, code, stdout, stderr)
		}
	}
}

// A command that takes long tells on standard error how far it is.
func TestALongCommandTellsHowFarItIs(t *testing.T) {
	_, db := start(t)
	for range 3 {
		must(t, mailboxes.At(db, "ada").Cast(t.Context(), letter1{}))
	}
	for every, want := range map[int]int{1: 3, 0: 0} {
		var out, errs bytes.Buffer
		tool := &tool{db: db, out: printer{w: &out, errs: &errs}, every: time.Duration(every)}
		w := &waiting{several{Server: server{mailboxes.Ref("ada")}, All: true, DryRun: true}}
		must(t, w.each(t.Context(), tool, "delete", nil))
		if n := strings.Count(errs.String(), " done, now at mailbox/ada\n"); n != want || strings.Count(out.String(), "would delete") != 3 {
			t.Errorf("it told %q beside %q", &errs, &out)
		}
	}
}

// The names that are proposed are the same each time, those of the nearest type first.
func TestNearNamesAreProposedInOneOrder(t *testing.T) {
	_, db := start(t)
	for _, ref := range []dserver.Ref{{Type: "boxes", ID: "ada"}, {Type: "boxen", ID: "ada"}, {Type: "box", ID: "ada"}, {Type: "aboxex", ID: "ada"}} {
		must(t, ref.At(db).Cast(t.Context(), dserver.Message{Name: "x", Body: []byte{0xf6}}))
	}
	for range 20 {
		tool, meant := &tool{db: db}, dserver.Ref{Type: "boxe", ID: "ada"}
		if got := tool.near(t.Context(), meant); got != ". Did you mean box/ada, boxen/ada, boxes/ada?" {
			t.Fatalf("it says %q", got)
		}
		if got := tool.nearAmong(t.Context(), meant, 2); got != ". Did you mean box/ada, boxen/ada?" { // where there are too many
			t.Fatalf("of two it says %q", got)
		}
	}
}

// A lock is listed with how long an attempt may take.
func TestLocksHaveTheirLimit(t *testing.T) {
	dir, db := start(t)
	must(t, orders.At(db, "1").Cast(t.Context(), fill{}))
	eventually(t, "it is locked", func() bool { return statusOf(t, db, orders.Ref("1")).Locked })
	if out := succeed(t, dir, "locks"); !strings.Contains(out, "LIMIT") || !strings.Contains(out, "  1m0s  ") {
		t.Errorf("it says %s", out)
	}
	if out := succeed(t, dir, "--json", "locks"); !strings.Contains(out, `"limit_seconds":60,`) {
		t.Errorf("it says %s", out)
	}
	succeed(t, dir, "unlock", "order/1")
}
