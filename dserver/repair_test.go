package dserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// repair mends a database, and returns what became of each finding.
func repair(t *testing.T, db backend.Database) (all []dserver.Repaired) {
	t.Helper()
	for r, err := range dserver.Repair(dserver.WithActor(t.Context(), "ada"), db) {
		must(t, err)
		all = append(all, r)
	}
	return all
}

// plan is what would be done.
func plan(t *testing.T, db backend.Database) (all []dserver.Repaired) {
	t.Helper()
	for r, err := range dserver.RepairPlan(t.Context(), db) {
		must(t, err)
		all = append(all, r)
	}
	return all
}

// firstBelow is the first pair below a key.
func firstBelow(t *testing.T, tx backend.Reader, prefix backend.Key) backend.KeyValue {
	t.Helper()
	pairs, err := tx.GetRange(prefix.Below(), backend.RangeOptions{Limit: 1}).Get()
	must(t, err)
	if len(pairs) == 0 {
		t.Fatalf("nothing is below %v", prefix)
	}
	return pairs[0]
}

// What can be mended is broken by hand, and mended: then Check finds nothing, and what was done is written down.
func TestRepairMendsWhatCheckFinds(t *testing.T) {
	t.Parallel()
	server := backend.NewKey("s", "journal", "a")
	stamp := backend.NewVersionstamp(1, 0)
	set := func(key backend.Key, value string) func(t *testing.T, tx backend.Tx) {
		return func(_ *testing.T, tx backend.Tx) { tx.Set(key, []byte(value)) }
	}
	clear := func(prefix backend.Key) func(t *testing.T, tx backend.Tx) {
		return func(_ *testing.T, tx backend.Tx) { tx.Clear(prefix.Below()) }
	}
	const tenantClaim = "\xa1\x65stamp\x4ctwelve bytes"
	claim := func(value string) func(t *testing.T, tx backend.Tx) {
		return func(t *testing.T, tx backend.Tx) {
			elements, err := firstBelow(t, tx, backend.NewKey("r")).Key.Elements()
			must(t, err)
			tx.Set(backend.NewKey(append(elements[:4:4], "c", "nobody")...), []byte(value))
		}
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, tx backend.Tx)
		how    []string
	}{
		{"a ready mark", clear(backend.NewKey("r")), []string{"set its ready mark"}},
		{"a counter of messages", func(_ *testing.T, tx backend.Tx) { tx.Add(server.Str("q").Int(2), 7) }, []string{"correct the counter of its messages"}},
		{"a message is missing", func(t *testing.T, tx backend.Tx) { tx.Clear(firstBelow(t, tx, server.Str("q").Int(1)).Key.Only()) }, []string{"correct the counter of its messages"}},
		{
			"a counter and the mark behind it",
			func(_ *testing.T, tx backend.Tx) {
				tx.Add(server.Str("q").Int(3), 2)
				tx.Clear(backend.NewKey("r").Below())
			},
			[]string{"correct the counter of its messages", "set its ready mark"},
		},
		{"a counter of dead letters", func(_ *testing.T, tx backend.Tx) { tx.Add(server.Str("d"), 3) }, []string{"correct the counter of its dead letters"}},
		{"a row in the index of trouble", clear(backend.NewKey("x")), []string{"put it into the index of trouble"}},
		{"attempts of a message that is gone", set(server.Str("h", "a").Int(1), "\xa2\x65stamp\x4ctwelve bytes\x65count\x01"), []string{"forget the attempts"}},
		{"a reason of a message that is gone", set(server.Str("f").Int(1), "\xa4\x65stamp\x4ctwelve bytes\x62of\x01\x64text\x61x\x62at\x01"), []string{"forget the reason"}},
		{"a reason that cannot be read", set(server.Str("f").Int(0), "\xff"), []string{"forget the reason"}},
		{
			"what is due",
			clear(backend.NewKey("t")),
			[]string{"put it into the index of what is due, with those after it", "put it into the index of what is due, with those after it"},
		},
		{"a stamp of nothing", func(_ *testing.T, tx backend.Tx) { tx.Stamp(server.Str("b", "word")) }, []string{"remove the stamp"}},
		{"rows of a delayed message", set(server.Str("a", "word").Int(1), "rest"), []string{"remove what is left of it"}},
		{"rows of a queued message", set(server.Str("q").Int(1).Stamp(stamp).Int(1), "rest"), []string{"remove rows of a message that has lost its first one"}},
		{
			"rows of a dead letter",
			set(server.Str("d").Stamp(stamp).Int(0), "\xa0"),
			[]string{"write its record anew, or remove it if it is not whole", "correct the counter of its dead letters"},
		},
		{"half of a dead letter", set(server.Str("d").Stamp(stamp).Int(0), "\xdaDSCH\x00\x00\x00\x02"), []string{"write its record anew, or remove it if it is not whole"}},
		{"a claim of no process", claim(tenantClaim), []string{"remove the claim"}},
		{"a claim that cannot be read", claim("\xff"), []string{"remove the claim"}},
		{"a claim of an empty queue", func(t *testing.T, tx backend.Tx) {
			tx.Set(backend.NewKey("p", "nobody", "r"), []byte{0xa0})
			mark := firstBelow(t, tx, backend.NewKey("r")).Key
			claim(tenantClaim)(t, tx)
			tx.Clear(server.Str("q").Tree())
			tx.Clear(mark.Only())
		}, []string{"remove the claim"}},
		{"a bell", set(backend.NewKey("b", int64(1)), "x"), []string{"let the bell begin anew"}},
		{"an alarm", set(backend.NewKey("a", int64(1)), "x"), []string{"let the bell begin anew"}},
		{"a label's bell", set(backend.NewKey("l", "gpu"), "x"), []string{"let the bell begin anew"}},
		{"mail of nobody", set(backend.NewKey("p", "nobody", "m", int64(1)).Stamp(stamp), ""), []string{"remove what is left of the process"}},
		{"a mark in the wrong shard", set(backend.NewKey("r", int64(7), "journal", "a", "m"), ""), []string{"put it where it belongs"}},
		{"a waiting server in the wrong shard", set(backend.NewKey("w", int64(7), "journal", "a"), ""), []string{"put it where it belongs"}},
		{"what is due in the wrong shard", set(backend.NewKey("t", int64(7), int64(1), "journal", "a", 1, "x", ""), ""), []string{"put it where it belongs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := furnished(t)
			must(t, db.Transact(t.Context(), func(tx backend.Tx) error { c.damage(t, tx); return nil }))
			if err := dserver.Check(t.Context(), db); !errors.Is(err, backend.ErrCorrupt) {
				t.Fatalf("it is not damaged: %v", err)
			}
			before := dump(t, db)
			if p := plan(t, db); len(p) == 0 || p[0].How == "" || p[0].Mended || !bytes.Equal(before, dump(t, db)) {
				t.Errorf("planned %+v", p)
			}
			done := repair(t, db)
			var how []string
			for _, r := range done {
				if !r.Mended || r.Finding == nil || r.Advice != "" {
					t.Errorf("%+v", r)
				}
				how = append(how, r.How)
			}
			if len(how) < len(c.how) || fmt.Sprint(how[len(how)-len(c.how):]) != fmt.Sprint(c.how) {
				t.Errorf("it did %q", how)
			}
			check(t, db, journals)
			acts := 0
			for a, err := range dserver.Audit(t.Context(), db) {
				must(t, err)
				if a.Verb != "Repair" || a.By != "ada" || !strings.Contains(a.Detail, done[len(done)-1-acts].How) {
					t.Errorf("it wrote down %+v", a)
				}
				acts++
			}
			if acts != len(done) {
				t.Errorf("%d acts of %d mends", acts, len(done))
			}
			if again := repair(t, db); len(again) > 0 {
				t.Errorf("a second time: %+v", again)
			}
			expectWorks(t, db)
		})
	}
}

// expectWorks shows that what was mended is handled by a consumer.
func expectWorks(t *testing.T, db backend.Database) {
	t.Helper()
	stop := run(t, dserver.Consumer{}, db, journals)
	defer stop()
	s := journals.At(db, "a")
	must(t, s.Call(within(t), Append{Line: "after"}, nil))
	if got := lines(t, s); got[len(got)-1] != "after" {
		t.Errorf("it has %v", got)
	}
	eventually(t, "all is handled", func() bool {
		found, err := s.Status(t.Context())
		return err == nil && found.Queued == 0
	})
}

// dump is all that is stored.
func dump(t *testing.T, db backend.Database) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, db.Read(t.Context(), func(tx backend.ReadTx) error {
		b.Reset()
		pairs, err := tx.GetRange(backend.Key(nil).Below(), backend.RangeOptions{}).Get()
		for _, p := range pairs {
			fmt.Fprintf(&b, "%x %x\n", p.Key, p.Value)
		}
		return err
	}))
	return b.Bytes()
}

// What cannot be mended is left as it is, each with what to do.
func TestRepairLeavesWhatItCannotMend(t *testing.T) {
	t.Parallel()
	server := backend.NewKey("s", "journal", "a")
	setFirst := func(prefix backend.Key, value string) func(t *testing.T, tx backend.Tx) {
		return func(t *testing.T, tx backend.Tx) { tx.Set(firstBelow(t, tx, prefix).Key, []byte(value)) }
	}
	set := func(key backend.Key) func(t *testing.T, tx backend.Tx) {
		return func(_ *testing.T, tx backend.Tx) { tx.Set(key, []byte("x")) }
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, tx backend.Tx)
		advice string
	}{
		{"a message is half there", setFirst(server.Str("q").Int(1), "\xdaDSCH\x00\x00\x00\x09"), "restore the server"},
		{"a strange key in the queue", set(server.Str("q").Int(9)), "restore the server"},
		{"a dead letter cannot be read", setFirst(server.Str("d"), "\xff"), "discard removes it"},
		{"a version is missing", func(_ *testing.T, tx backend.Tx) { tx.Clear(server.Str("h").Only()) }, "reset forgets the state"},
		{"a strange record", set(server.Str("h", "z")), "too old to know it"},
		{"a timer cannot be read", setFirst(server.Str("t"), "\xff"), "reset removes all timers"},
		{"a key cannot be read", setFirst(server.Str("e"), "\xff"), "is refused"},
		{"a message without a lock", set(server.Str("w")), "nobody knows"},
		{"keys of nothing", set(backend.NewKey("z", "z")), "newer version"},
		{"a bell of no shard", set(backend.NewKey("b", int64(128))), "newer version"},
		{"a mark in a shard that is none", set(backend.NewKey("r", int64(500), "journal", "a", "m")), "newer version"},
		{"a waiting server in a shard that is none", set(backend.NewKey("w", int64(500), "journal", "a")), "newer version"},
		{"what is due in a shard that is none", set(backend.NewKey("t", int64(500), int64(1), "journal", "a", 1, "x", "")), "newer version"},
		{"a row of nothing that is due", set(backend.NewKey("t", int64(1), "x")), "newer version"},
		{"a process cannot be read", func(_ *testing.T, tx backend.Tx) { tx.Set(backend.NewKey("p", "somebody", "r"), []byte{0xff}) }, "ten minutes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := furnished(t)
			must(t, db.Transact(t.Context(), func(tx backend.Tx) error { c.damage(t, tx); return nil }))
			before := dump(t, db)
			left := repair(t, db)
			advised := false
			for _, r := range left {
				advised = advised || strings.Contains(r.Advice, c.advice)
				if r.Mended || r.How != "" {
					t.Errorf("it did %+v", r)
				}
			}
			if !advised || !bytes.Equal(before, dump(t, db)) {
				t.Errorf("it left %+v", left)
			}
		})
	}
}

// Repair runs beside consumers and senders, breaks nothing of what they do, and what it corrects is right afterwards. Two of
// them do not correct one counter twice.
func TestRepairIsRightBesideABusyApplication(t *testing.T) {
	t.Parallel()
	store := backendtest.NewStore() // unchecked: it is damaged while it runs
	db := store.Open()
	start(t, db, journals)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	var busy sync.WaitGroup
	for range 2 {
		busy.Go(func() {
			for ctx.Err() == nil {
				for _, m := range []any{Write{"x"}, Reject{"x"}} {
					if err := journals.At(db, "a").Cast(ctx, m); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
				}
			}
		})
	}
	server := backend.NewKey("s", "journal", "a")
	mended := 0
	for round := range 8 {
		must(t, db.Transact(ctx, func(tx backend.Tx) error {
			tx.Add(server.Str("q").Int(2), int64(round%3)-3)
			tx.Add(server.Str("d"), 5)
			tx.Clear(backend.NewKey("x").Below())
			return nil
		}))
		var both sync.WaitGroup
		var mu sync.Mutex
		for range 2 {
			both.Go(func() {
				for r, err := range dserver.Repair(ctx, store.Open()) {
					if err != nil || !r.Mended {
						t.Errorf("%+v, %v", r, err)
					}
					mu.Lock()
					mended++
					mu.Unlock()
				}
			})
		}
		both.Wait()
		check(t, db, journals)
	}
	cancel()
	busy.Wait()
	if mended < 8 {
		t.Errorf("%d were mended", mended)
	}
}

// Thousands of delayed messages that have lost their rows are found again by a few transactions, and come.
func TestRepairFindsManyDelayedMessagesAgain(t *testing.T) {
	t.Parallel()
	db := backendtest.NewStore().Open()
	s := journals.At(db, "a")
	const many = 5000
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range many / 16 {
				if err := s.Cast(t.Context(), Write{"later"}, dserver.After(time.Hour)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	must(t, db.Transact(t.Context(), func(tx backend.Tx) error { tx.Clear(backend.NewKey("t").Below()); return nil }))
	if done := repair(t, db); len(done) == 0 || len(done) > 20 {
		t.Errorf("%d mends", len(done))
	}
	check(t, db, journals)
}
