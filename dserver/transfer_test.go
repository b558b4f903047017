package dserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// Ship is a state with all that may be in flight when it is moved to another store.
type Ship struct {
	Lines []string
	Boxes map[string]int
	Keys  []string // of locked work
}

type (
	Lade      struct{ Line string }
	LadeTwice struct{ Line string } // breaks until dock is open
	LadeNot   struct{ Line string } // is refused
	HaulOver  struct{ Line string } // under a lock, until dock is open
	SetSail   struct{ After time.Duration }
	CargoList struct{ dserver.Returns[[]string] }
)

// docks is a type whose messages break, and whose work does not end, until it is open.
func docks(isOpen *atomic.Bool) *dserver.Definition[Ship] {
	load := func(h *Ship, line string) {
		h.Lines = append(h.Lines, line)
		if len(line) < 100 { // it is a key
			h.Boxes[line]++
		}
	}
	return dserver.Define("ship",
		dserver.HandleCast(func(_ *dserver.Context, h *Ship, m Lade) error { load(h, m.Line); return nil }),
		dserver.HandleCast(func(_ *dserver.Context, h *Ship, m LadeTwice) error {
			if !isOpen.Load() {
				panic("the dock is closed")
			}
			load(h, m.Line)
			return nil
		}),
		dserver.HandleCast(func(_ *dserver.Context, _ *Ship, m LadeNot) error { return errors.New("no room for " + m.Line[:3]) }),
		dserver.HandleLocked(
			func(ctx *dserver.LockedContext, _ Ship, m HaulOver) (string, error) {
				if !isOpen.Load() {
					<-ctx.Done()
					return "", ctx.Err()
				}
				return ctx.IdempotencyKey(), nil
			},
			func(_ *dserver.Context, h *Ship, m HaulOver, key string) error {
				load(h, m.Line)
				h.Keys = append(h.Keys, key)
				return nil
			}),
		dserver.HandleCast(func(ctx *dserver.Context, _ *Ship, m SetSail) error {
			ctx.SetTimer("horn", m.After, Lade{"horn"})
			return nil
		}),
		dserver.HandleCall(func(_ *dserver.Context, h *Ship, _ CargoList) ([]string, error) { return h.Lines, nil }),
		dserver.Settings[Ship]{MaxAttempts: 1000},
	)
}

// loaded fills a store with servers that have something in flight, and returns the idempotency key of the work.
func loaded(t *testing.T, db backend.Database) {
	isOpen := new(atomic.Bool)
	hold, ctx := docks(isOpen), within(t)
	stop := run(t, dserver.Consumer{Labels: []string{"", "north"}, Grace: 100 * time.Millisecond}, db, hold)
	full := hold.At(db, "full")
	must(t, full.Cast(ctx, Lade{"first"}))
	must(t, full.Cast(ctx, Lade{"keyed"}, dserver.Once("k")))
	must(t, full.Cast(ctx, SetSail{time.Second}))
	must(t, hold.At(db, "far").Cast(ctx, Lade{"on the way"}))
	must(t, hold.At(db, "far").Pin(ctx, "north"))
	must(t, hold.At(db, "letters").CastAll(ctx, []any{LadeNot{"one"}, LadeNot{"two"}, LadeNot{strings.Repeat("long", 50_000)}, LadeNot{"four"}}))
	must(t, hold.At(db, "locked").Cast(ctx, HaulOver{"hauled"}))
	must(t, hold.At(db, "failing").Cast(ctx, LadeTwice{"at last"}))
	eventually(t, "all is begun", func() bool {
		return statusOf(t, hold.At(db, "letters")).DeadLetters == 4 && statusOf(t, hold.At(db, "locked")).Locked &&
			statusOf(t, hold.At(db, "failing")).Attempts > 0 && statusOf(t, hold.At(db, "far")).Label == "north" && statusOf(t, full).Queued == 0
	})
	stop()
	for i := range 600 {
		must(t, full.Cast(ctx, Lade{fmt.Sprint(i)}))
	}
	must(t, full.Cast(ctx, Lade{strings.Repeat("large", 100_000)}, dserver.Header("request", "r-17")))
	must(t, full.Cast(ctx, Lade{"ahead"}, dserver.Priority()))
	must(t, full.Cast(ctx, Lade{"later"}, dserver.After(time.Second)))
	giveUp(t, func(ctx context.Context) error { return full.Call(ctx, CargoList{}, nil) }) // its caller is gone
	must(t, hold.At(db, "locked").Cast(ctx, Lade{"behind the lock"}))
	must(t, hold.At(db, "failing").Cast(ctx, Lade{"behind"}))
	must(t, hold.At(db, "paused").Cast(ctx, Lade{"not yet"}))
	must(t, hold.At(db, "paused").Pause(ctx))
	must(t, hold.At(db, "unborn").Cast(ctx, Lade{"to come"}))
}

// moved exports one database and imports it into another.
func moved(t *testing.T, from, to backend.Database) (servers int) {
	t.Helper()
	var file bytes.Buffer
	out, err := dserver.Export(within(t), from, &file, dserver.All(within(t), from))
	must(t, err)
	in, err := dserver.Import(within(t), to, &file)
	must(t, err)
	if in != out {
		t.Errorf("%d servers were exported, and %d imported", out, in)
	}
	return in
}

// picture is all that can be seen of the servers of a database, without stamps, which are renewed, and without who waits.
func picture(t *testing.T, db backend.Database) string {
	var text strings.Builder
	ctx := within(t)
	for ref, err := range dserver.All(ctx, db) {
		must(t, err)
		s := ref.At(db)
		show := func(what string, v any) {
			b, err := json.Marshal(v)
			must(t, err)
			fmt.Fprintf(&text, "%v %s %s\n", ref, what, b)
		}
		status := statusOf(t, s)
		for i := range status.Failing {
			status.Failing[i].Stamp = backend.Versionstamp{}
		}
		status.Lock.Stamp, status.Lock.Process = backend.Versionstamp{}, ""
		show("status", status)
		if state, err := s.State(ctx); err == nil {
			show("state", fmt.Sprint(state))
		} else if !errors.Is(err, dserver.ErrNotFound) {
			t.Fatal(err)
		}
		each(t, s.Queue(ctx), func(m dserver.Queued) {
			m.Stamp, m.Call = backend.Versionstamp{}, false
			show("queued", m)
		})
		each(t, s.DeadLetters(ctx), func(d dserver.DeadLetter) {
			d.Stamp = backend.Versionstamp{}
			show("dead", d)
		})
		each(t, s.Delayed(ctx), func(d dserver.Delayed) { show("delayed", d) })
		each(t, s.Timers(ctx), func(d dserver.Timer) { show("timer", d) })
	}
	return text.String()
}

func each[T any](t *testing.T, all iter.Seq2[T, error], show func(T)) {
	for item, err := range all {
		must(t, err)
		show(item)
	}
}

// A system moves to another store and back, with work in flight: all is as it was, and what follows happens once, in order.
func TestSystemMovesBetweenStores(t *testing.T) {
	t.Parallel()
	eachNamedStore(t, func(t *testing.T, place func(testing.TB) string) {
		dbs := []backend.Database{openNamed(t, newFile(t)), openNamed(t, place(t)), openNamed(t, newFile(t))}
		for _, db := range dbs {
			t.Cleanup(func() { must(t, db.Close()) })
		}
		loaded(t, dbs[0])
		before := picture(t, dbs[0])
		for i, db := range dbs[1:] {
			if n := moved(t, dbs[i], db); n != 7 {
				t.Fatalf("%d servers were moved", n)
			}
			if after := picture(t, db); after != before {
				t.Fatalf("it was\n%s\nand is\n%s", shortened(before), shortened(after))
			}
			check(t, db, docks(new(atomic.Bool)))
		}
		expectGoesOn(t, dbs[2])
	})
}

func shortened(text string) string {
	var short []string
	for line := range strings.Lines(text) {
		short = append(short, line[:min(len(line), 300)])
	}
	return strings.Join(short, "\n")
}

// expectGoesOn runs what was loaded to its end.
func expectGoesOn(t *testing.T, db backend.Database) {
	isOpen := new(atomic.Bool)
	isOpen.Store(true)
	hold, ctx := docks(isOpen), within(t)
	full := hold.At(db, "full")
	must(t, full.Cast(ctx, Lade{"keyed"}, dserver.Once("k"))) // it was sent before it was moved
	must(t, full.Cast(ctx, Lade{"last"}))
	run(t, dserver.Consumer{Labels: []string{"", "north"}}, db, hold)
	want := map[string][]string{
		"failing": {"at last", "behind"}, "far": {"on the way"}, "letters": nil, "locked": {"hauled", "behind the lock"}, "unborn": {"to come"}, "paused": nil,
	}
	full600 := []string{"first", "keyed", "ahead"}
	for i := range 600 {
		full600 = append(full600, fmt.Sprint(i))
	}
	want["full"] = append(full600, strings.Repeat("large", 100_000), "last")
	lines := func(id string) []string {
		state, err := hold.At(db, id).State(ctx)
		if err != nil && !errors.Is(err, dserver.ErrNotFound) {
			t.Fatal(err)
		}
		return slices.DeleteFunc(state.Lines, func(line string) bool { return line == "later" || line == "horn" }) // when it was is chance
	}
	for id, want := range want {
		eventually(t, id+" has all", func() bool {
			return len(lines(id)) >= len(want) && statusOf(t, hold.At(db, id)).Queued == 0 || id == "paused"
		})
		if got := lines(id); !slices.Equal(got, want) {
			t.Errorf("%s has %d lines: %s", id, len(got), shortened(strings.Join(got, "\n")))
		}
	}
	state, err := full.State(ctx)
	must(t, err)
	eventually(t, "what is due comes", func() bool {
		state, err = full.State(ctx)
		return err == nil && state.Boxes["later"] == 1 && state.Boxes["horn"] == 1
	})
	if locked, err := hold.At(db, "locked").State(ctx); err != nil || len(locked.Keys) != 1 {
		t.Errorf("the work was applied under %q, %v", locked.Keys, err)
	}
	expectRetried(t, hold.At(db, "letters"))
	if n := statusOf(t, hold.At(db, "paused")).Queued; n != 1 {
		t.Errorf("%d messages of the paused server wait", n)
	}
	must(t, hold.At(db, "paused").Resume(ctx))
	eventually(t, "it goes on", func() bool { return len(lines("paused")) == 1 })
}

// expectRetried sends the letters again, which are refused once more, in their order.
func expectRetried(t *testing.T, s *dserver.DServer[Ship]) {
	ctx := within(t)
	var first []dserver.DeadLetter
	each(t, s.DeadLetters(ctx), func(d dserver.DeadLetter) { first = append(first, d) })
	for _, d := range first {
		must(t, s.Retry(ctx, d))
	}
	eventually(t, "all are refused again", func() bool { return statusOf(t, s).DeadLetters == 4 && statusOf(t, s).Queued == 0 })
	var why []string
	each(t, s.DeadLetters(ctx), func(d dserver.DeadLetter) { why = append(why, d.Err.Text) })
	expectLines(t, why, "no room for one", "no room for two", "no room for lon", "no room for fou")
}

// What an import refuses, it says, and what it has begun nobody handles.
func TestImportRefusesWhatIsNoExportOrThere(t *testing.T) {
	t.Parallel()
	from := openNamed(t, newFile(t))
	t.Cleanup(func() { must(t, from.Close()) })
	loaded(t, from)
	var file bytes.Buffer
	_, err := dserver.Export(within(t), from, &file, dserver.All(within(t), from))
	must(t, err)
	whole := file.Bytes()
	for _, c := range []struct {
		name string
		file []byte
		says string
	}{
		{"nothing", nil, "no export"},
		{"another file", []byte("SQLite format 3"), "no export"},
		{"of a later version", []byte("\xa2\x66format\x67dserver\x67version\x18\x63"), "it is of version 99, and this program reads version 1"},
		{"cut at the end", whole[:len(whole)-3], "the file ends, or is damaged"},
		{"cut in a server", whole[:len(whole)/2], "the file ends, or is damaged"},
	} {
		db := backendtest.NewModel()
		if _, err := dserver.Import(within(t), db, bytes.NewReader(c.file)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
		check(t, db)
	}
	db := backendtest.NewModel()
	must(t, docks(nil).At(db, "full").Cast(within(t), Lade{"mine"}))
	if _, err := dserver.Import(within(t), db, bytes.NewReader(whole)); !errors.Is(err, dserver.ErrChanged) || !strings.Contains(err.Error(), "ship/full") {
		t.Errorf("over a server: %v", err)
	}
	if got := queued(t, docks(nil).At(db, "full")); got != 1 {
		t.Errorf("%d messages wait", got)
	}
}

func queued[S any](t *testing.T, s *dserver.DServer[S]) int64 { return statusOf(t, s).Queued }

// An import that is interrupted at whatever commit leaves a server that nobody handles and Check names, and begins anew.
func TestInterruptedImportBeginsAnew(t *testing.T) {
	t.Parallel()
	from := openNamed(t, newFile(t))
	t.Cleanup(func() { must(t, from.Close()) })
	loaded(t, from)
	full := func(yield func(dserver.Ref, error) bool) { yield(dserver.Ref{Type: "ship", ID: "full"}, nil) }
	var file bytes.Buffer
	_, err := dserver.Export(within(t), from, &file, full)
	must(t, err)
	for commits := 1; ; commits++ {
		db := &interrupted{Database: backendtest.NewModel(), left: commits}
		n, err := dserver.Import(within(t), db, bytes.NewReader(file.Bytes()))
		if err == nil && n == 1 {
			if commits < 4 {
				t.Errorf("it took %d commits", commits)
			}
			return
		}
		s := docks(nil).At(db.Database, "full")
		if err := dserver.Check(within(t), db.Database); !errors.Is(err, backend.ErrCorrupt) || !strings.Contains(err.Error(), "its import has not ended") {
			t.Errorf("after %d commits Check says %v", commits, err)
		}
		if err := s.Resume(within(t)); !errors.Is(err, dserver.ErrPaused) {
			t.Errorf("after %d commits it is resumed: %v", commits, err)
		}
		n, err = dserver.Import(within(t), db.Database, bytes.NewReader(file.Bytes()))
		if err != nil || n != 1 {
			t.Fatalf("after %d commits it does not begin anew: %v", commits, err)
		}
		check(t, db.Database)
		if got := queued(t, s); got != 603 {
			t.Errorf("after %d commits %d messages wait", commits, got)
		}
	}
}

// interrupted is a database that commits so many times.
type interrupted struct {
	backend.Database
	left int
}

func (i *interrupted) Transact(ctx context.Context, fn func(tx backend.Tx) error) error {
	if i.left--; i.left < 0 {
		return errors.New("the process was killed")
	}
	return i.Database.Transact(ctx, fn)
}

// What is sent to a server while it is imported waits until that is whole, and is handled then, though consumers have found it
// meanwhile and left it alone, and nothing that was imported waits.
func TestWhatIsSentToAServerThatIsImportedIsHandledThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold, ctx, store := docks(new(atomic.Bool)), context.Background(), newStore(t, docks(nil))
		from := backendtest.NewModel()
		stop := run(t, dserver.Consumer{}, from, hold)
		must(t, hold.At(from, "quiet").Cast(ctx, Lade{"first"}))
		<-time.After(time.Minute)
		stop()
		var file bytes.Buffer
		_, err := dserver.Export(ctx, from, &file, dserver.All(ctx, from))
		must(t, err)
		to := store.Open()
		run(t, dserver.Consumer{}, to, hold)
		quiet := hold.At(to, "quiet")
		db := &committed{Database: store.Open(), then: func(commits int) {
			if commits == 1 {
				must(t, quiet.Cast(ctx, Lade{"second"}))
				<-time.After(time.Minute)
				if n := rows(t, to, "r"); n != 0 {
					t.Errorf("it has not left the ready marks: %d", n)
				}
				if status := statusOf(t, quiet); status.Queued != 1 || !status.Paused {
					t.Errorf("before it is whole it is %+v", status)
				}
				if _, err := quiet.State(ctx); !errors.Is(err, dserver.ErrNotFound) {
					t.Errorf("before it is whole there is a state: %v", err)
				}
			}
		}}
		_, err = dserver.Import(ctx, db, &file)
		must(t, err)
		<-time.After(time.Minute)
		state, err := quiet.State(ctx)
		must(t, err)
		expectLines(t, state.Lines, "first", "second")
	})
}

// committed is a database that tells how often it has committed.
type committed struct {
	backend.Database
	then    func(commits int)
	commits int
}

func (c *committed) Transact(ctx context.Context, fn func(tx backend.Tx) error) error {
	err := c.Database.Transact(ctx, fn)
	if err == nil {
		c.commits++
		c.then(c.commits)
	}
	return err
}
