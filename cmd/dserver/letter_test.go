package main

import (
	"strconv"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/backend"
)

// setAside makes a message of the counter a dead letter, and returns its stamp.
func setAside(t *testing.T, dir string, db backend.Database, id string) string {
	t.Helper()
	must(t, counters.At(db, id).Cast(t.Context(), refuse{Why: "it is late"}))
	eventually(t, "it is set aside", func() bool { return statusOf(t, db, counters.Ref(id)).DeadLetters == 1 })
	return stampsOf(t, dir, "dead", "counter/"+id)[0]
}

func TestAMendedMessageIsHandled(t *testing.T) {
	dir, db := start(t)
	stamp := setAside(t, dir, db, "mended")
	if _, stderr, code := dserverTool(t, dir, "--db", "app.db", "edit", "counter/mended", stamp, "--name", "add", "--body", `{"By": 7}`); code != 0 {
		t.Fatal(stderr)
	}
	eventually(t, "it is handled", func() bool {
		c, err := counters.At(db, "mended").State(t.Context())
		return err == nil && c.Count == 7
	})
	if s := statusOf(t, db, counters.Ref("mended")); s.DeadLetters != 0 || s.Queued != 0 {
		t.Errorf("%+v", s)
	}
}

func TestARetriedMessageMayBeSetAsideAgainAndDiscarded(t *testing.T) {
	dir, db := start(t)
	first := setAside(t, dir, db, "again")
	if _, stderr, code := dserverTool(t, dir, "--db", "app.db", "retry", "counter/again", first); code != 0 {
		t.Fatal(stderr)
	}
	var second string
	eventually(t, "it is set aside again", func() bool {
		if statusOf(t, db, counters.Ref("again")).DeadLetters != 1 {
			return false
		}
		second = stampsOf(t, dir, "dead", "counter/again")[0]
		return second != first
	})
	if _, stderr, code := dserverTool(t, dir, "--db", "app.db", "discard", "counter/again", second); code != 0 {
		t.Fatal(stderr)
	}
	if s := statusOf(t, db, counters.Ref("again")); s.DeadLetters != 0 || s.Queued != 0 {
		t.Errorf("%+v", s)
	}
}

// succeed runs a command that has to succeed.
func succeed(t *testing.T, dir string, args ...string) string {
	t.Helper()
	stdout, stderr, code := dserverTool(t, dir, append([]string{"--db", "app.db"}, args...)...)
	if code != exitDone {
		t.Fatalf("%v: exit code %d, %s", args, code, stderr)
	}
	return stdout
}

func TestAllMessagesThatAFilterTakesAreMendedOnce(t *testing.T) {
	dir, db := start(t)
	srv := counters.At(db, "many")
	must(t, srv.CastAll(t.Context(), []any{refuse{Why: "one"}, fail{}, refuse{Why: "two"}}))
	eventually(t, "all are set aside", func() bool { return statusOf(t, db, srv.Ref()).DeadLetters == 3 })
	out := succeed(t, dir, "edit", "counter/many", "--code", "refused", "--name", "add", "--body", `{"By": 10}`, "--priority")
	if strings.Count(out, "ahead of the queue") != 2 {
		t.Errorf("it said %q", out)
	}
	eventually(t, "the mended ones are handled", func() bool {
		c, err := srv.State(t.Context())
		return err == nil && c.Count == 20
	})
	if s := statusOf(t, db, srv.Ref()); s.DeadLetters != 1 || s.Queued != 0 {
		t.Errorf("%+v", s)
	}
	if out := succeed(t, dir, "dead", "counter/many"); !strings.Contains(out, "fail") {
		t.Errorf("left is %s", out)
	}
}

// Those of many servers are taken by one command, which leaves what the filter does not take.
func TestMessagesOfAllServersAreRetriedAndDiscarded(t *testing.T) {
	dir, db := start(t)
	for id := range 5 {
		must(t, counters.At(db, strconv.Itoa(id)).CastAll(t.Context(), []any{refuse{Why: "late"}, fail{}}))
	}
	each := func(letters int64) func() bool {
		return func() bool {
			for id := range 5 {
				if statusOf(t, db, counters.Ref(strconv.Itoa(id))).DeadLetters != letters {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "all are set aside", each(2))
	out := succeed(t, dir, "edit", "--type", "counter", "--code", "refused", "--name", "add", "--body", `{"By": 3}`)
	if strings.Count(out, "at the end of the queue of counter/") != 5 {
		t.Errorf("it said %s", out)
	}
	eventually(t, "the mended ones are handled", func() bool {
		for id := range 5 {
			if c, err := counters.At(db, strconv.Itoa(id)).State(t.Context()); err != nil || c.Count != 3 {
				return false
			}
		}
		return each(1)()
	})
	if out := succeed(t, dir, "discard", "--everywhere", "--message", "fail", "--yes"); strings.Count(out, "discarded") != 5 || !each(0)() {
		t.Errorf("it said %s", out)
	}
}

func TestWhatIsSetAsideAgainIsNotRetriedInTheSameCommand(t *testing.T) {
	dir, db := start(t)
	srv := counters.At(db, "loop")
	must(t, srv.CastAll(t.Context(), []any{refuse{Why: "one"}, refuse{Why: "two"}, refuse{Why: "three"}}))
	eventually(t, "they are set aside", func() bool { return statusOf(t, db, srv.Ref()).DeadLetters == 3 })
	if out := succeed(t, dir, "retry", "counter/loop", "--message", "refuse"); strings.Count(out, "at the end of the queue") != 3 {
		t.Errorf("it said %q", out)
	}
	eventually(t, "they are set aside again", func() bool { return statusOf(t, db, srv.Ref()).DeadLetters == 3 })
}

func TestAHaltedServerGoesOnWhenItIsResumed(t *testing.T) {
	dir, db := start(t)
	srv := orders.At(db, "halted")
	must(t, srv.Cast(t.Context(), explode{}))
	eventually(t, "it halts", func() bool { return statusOf(t, db, srv.Ref()).Halted })
	must(t, srv.Cast(t.Context(), add{By: 1}))
	if out := succeed(t, dir, "status", "order/halted"); !strings.Contains(out, "halted, attempts: 1") {
		t.Errorf("its status is %s", out)
	}
	succeed(t, dir, "resume", "order/halted")
	eventually(t, "it halts once more", func() bool { return statusOf(t, db, srv.Ref()).Halted })
	succeed(t, dir, "withdraw", "order/halted", stampsOf(t, dir, "queue", "order/halted")[0])
	eventually(t, "the next message is handled", func() bool {
		c, err := srv.State(t.Context())
		return err == nil && c.Count == 1
	})
}

func TestAServerIsPinnedWhereNobodyIsAndBack(t *testing.T) {
	dir, db := start(t)
	srv := counters.At(db, "pinned")
	if out := succeed(t, dir, "pin", "counter/pinned", "gpu, big"); !strings.Contains(out, `pinned counter/pinned to "gpu, big", which no consumer of its type lists now`) ||
		!strings.Contains(out, "dserver --db app.db consumers") {
		t.Errorf("it said %q", out)
	}
	must(t, srv.Cast(t.Context(), add{By: 1}))
	eventually(t, "it is said to wait for a consumer", func() bool {
		return strings.Contains(succeed(t, dir, "ls", "counter"), `no consumer lists its label "gpu, big"`)
	})
	if out := succeed(t, dir, "status", "counter/pinned"); !strings.Contains(out, "gpu, big") || !strings.Contains(out, "no consumer lists its label") {
		t.Errorf("its status is %s", out)
	}
	if out := succeed(t, dir, "ls", "--trouble"); !strings.Contains(out, "counter/pinned") || strings.Contains(out, "cart/") {
		t.Errorf("in trouble are %s", out)
	}
	if out := succeed(t, dir, "ls", "cart", "--trouble"); !strings.Contains(out, "no server is in trouble") {
		t.Errorf("in trouble are %s", out)
	}
	if out := succeed(t, dir, "status", "counter/pinned", "--json"); !strings.Contains(out, `"label":"gpu, big","unlisted":true`) {
		t.Errorf("its status is %s", out)
	}
	if out := succeed(t, dir, "pin", "counter/pinned", ""); !strings.Contains(out, `pinned counter/pinned to ""`) || strings.Contains(out, "lists now") {
		t.Errorf("it said %q", out)
	}
	eventually(t, "its message is handled", func() bool {
		c, err := srv.State(t.Context())
		return err == nil && c.Count == 1
	})
	_, stderr, code := dserverTool(t, dir, "--db", "app.db", "pin", "counter/pinned", strings.Repeat("x", 129))
	if code == exitDone || !strings.Contains(stderr, "at most 128 bytes") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

func TestUnlockSetsTheLockedMessageAside(t *testing.T) {
	dir, db := start(t)
	srv := orders.At(db, "locked")
	must(t, srv.Cast(t.Context(), fill{}))
	eventually(t, "it is locked", func() bool { return statusOf(t, db, srv.Ref()).Locked })
	if out := succeed(t, dir, "ls", "order"); !strings.Contains(out, "locked") {
		t.Errorf("it is listed as %s", out)
	}
	succeed(t, dir, "unlock", "order/locked")
	if s := statusOf(t, db, srv.Ref()); s.Locked || s.DeadLetters != 1 {
		t.Errorf("%+v", s)
	}
}

func TestCheckListsWhatIsWrong(t *testing.T) {
	dir, db := start(t)
	must(t, counters.At(db, "visits").Call(t.Context(), add{By: 1}, nil))
	succeed(t, dir, "check")
	must(t, db.Transact(t.Context(), func(tx backend.Tx) error {
		tx.Set(backend.NewKey("stray"), []byte{1})
		return nil
	}))
	stdout, stderr, code := dserverTool(t, dir, "--db", "app.db", "check")
	if code != exitFailed || !strings.Contains(stdout, "stray") || !strings.Contains(stderr, "findings: 1") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}
