package dserver_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// keysFile draws the key space. What stands between the fences after the marker is what this test dumps.
const (
	keysFile   = "../docs/keys.md"
	keysMarker = "<!-- GOLDEN=1 go test -run Golden ./dserver writes this block -->\n```text\n"
	keysEnd    = "```\n"
)

func TestGoldenKeysAreWhatTheDocumentDraws(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewStore()
		fillKeySpace(t, db)
		run(t, dserver.Consumer{}, db.Open(), ovenTypes)
		synctest.Wait() // it has told of itself
		dump, err := backendtest.Dump(t.Context(), db.Open(), backendtest.Counters(isCounter), isLarge)
		must(t, err)
		compareBlock(t, keysFile, withoutChance(dump))
	})
}

// isCounter tells counters, which are eight bytes like others, by the keys that docs/keys.md draws.
func isCounter(key backend.Key) bool {
	elements, err := key.Elements()
	if err != nil || len(elements) < 2 {
		return false
	}
	last := elements[len(elements)-1]
	switch elements[0] {
	case "a", "b":
		return true
	case "s":
		return last == "d" || len(elements) > 3 && elements[3] == "q" && (last == int64(2) || last == int64(3))
	case "p":
		return last == "b" || last == int64(2) || last == int64(3)
	}
	return false
}

// isLarge shows rows of a value that was cut into chunks.
func isLarge(_ backend.Key, value []byte) (string, bool) {
	return fmt.Sprintf("<%d bytes>", len(value)), len(value) > 1000
}

// Kiln is a state whose work takes long.
type Kiln struct{ Degrees int }

// Heat sets a timer.
type Heat struct{ Degrees int }

// Cool is what the timer sends.
type Cool struct{}

// Fire is locked work, which ends with its process.
type Fire struct{ Cups int }

var kilns = dserver.Define("kiln",
	dserver.HandleCast(func(ctx *dserver.Context, k *Kiln, m Heat) error {
		k.Degrees = m.Degrees
		ctx.SetTimer("cool", time.Hour, Cool{})
		return nil
	}),
	dserver.HandleCast(func(_ *dserver.Context, k *Kiln, _ Cool) error {
		k.Degrees = 0
		return nil
	}),
	dserver.HandleLocked(
		func(ctx *dserver.LockedContext, _ Kiln, _ Fire) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		},
		func(*dserver.Context, *Kiln, Fire, int) error { return nil }),
)

// Oven is a state that nobody has.
type Oven struct{}

// HeatUp is what an oven would handle.
type HeatUp struct{}

var ovenTypes = dserver.Define("oven", dserver.HandleCast(func(*dserver.Context, *Oven, HeatUp) error { return nil }))

// fillKeySpace makes one of each kind of key.
func fillKeySpace(t *testing.T, store *backendtest.Store) {
	db, other := store.Open(), store.Open() // other stands for another process
	fillCarts(t, db, other)
	fillKilns(t, db)
}

// fillKilns makes a server with a timer, a delayed message, an idempotency key, and a lock that was given up.
func fillKilns(t *testing.T, db backend.Database) {
	blue := kilns.At(db, "blue")
	must(t, blue.Cast(t.Context(), Heat{900}, dserver.Once("monday")))
	must(t, blue.Cast(t.Context(), Heat{800}, dserver.After(time.Hour)))
	must(t, blue.Cast(t.Context(), Fire{12}, dserver.Header("request", "r-17")))
	stop := run(t, dserver.Consumer{}, db, kilns)
	synctest.Wait() // it works, and beats
	stop()
}

// fillCarts makes a server with state, with messages, one of which broke, and with a dead letter; and a process that
// waits for a call, with an answer that it has not read.
func fillCarts(t *testing.T, db, other backend.Database) {
	ada := carts.At(db, "ada")
	must(t, ada.Cast(t.Context(), AddLine{"tea", 250}))
	giveUp(t, func(ctx context.Context) error {
		return carts.At(other, "ada").Call(ctx, AddLine{"cup", 900}, nil)
	})

	stop := run(t, dserver.Consumer{}, db, carts)
	synctest.Wait() // it has handled both
	must(t, ada.Cast(t.Context(), AddLine{"pot", 1500}))
	must(t, ada.Cast(t.Context(), AddLine{"tea", 260})) // refused: it is there already
	must(t, ada.Ref().At(db).Cast(t.Context(), dserver.Message{Name: "AddLine", Body: []byte{1}}))
	<-time.After(1500 * time.Millisecond) // it was tried three times, and waits
	stop()

	must(t, ada.CastAll(t.Context(), []any{AddLine{"milk", 120}, AddLine{strings.Repeat("long ", 20_000), 1}}))
	giveUp(t, func(ctx context.Context) error {
		return carts.At(other, "bob").Call(ctx, AddLine{"jam", 300}, nil)
	})
	must(t, carts.At(db, "bob").Pause(dserver.WithActor(t.Context(), "ada@ops")))
}

// giveUp makes a call that nobody answers in time.
func giveUp(t *testing.T, call func(context.Context) error) {
	t.Helper()
	for patience := time.Millisecond; ; patience *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := call(ctx)
		if cancel(); err == nil {
			t.Fatal("somebody answered")
		}
		if text := err.Error(); !strings.Contains(text, "nothing was sent") && !strings.Contains(text, "was not sent") {
			return
		}
	}
}

// withoutChance replaces what differs from run to run.
func withoutChance(dump string) string {
	if caller := regexp.MustCompile(`\("p", "([A-Z2-8]{26})", "m"`).FindStringSubmatch(dump); caller != nil {
		dump = strings.ReplaceAll(dump, caller[1], "CALLER")
	}
	if baker := regexp.MustCompile(`\("p", "([A-Z2-8]{26})", "s", "oven"`).FindStringSubmatch(dump); baker != nil {
		dump = strings.ReplaceAll(dump, baker[1], "OVEN")
	}
	dump = regexp.MustCompile(`\("p", "[A-Z2-8]{26}"`).ReplaceAllString(dump, `("p", "CONSUMER"`)
	for _, r := range []struct{ pattern, text string }{
		{`\b[A-Z2-8]{26}\b`, "WORD"},
		{`= x([0-9a-f]{2}){26}\n`, "= WORD\n"},
		{`"host": "[^"]*"`, `"host": "HOST"`},
		{`"pid": \d+`, `"pid": 4711`},
		{`"version": "[^"]*"`, `"version": "VERSION"`},
		{`"call": \d+`, `"call": 4711`},
		{`CALLER\.[0-9a-z]+`, `CALLER.CALL`},
		{`"wait": \d+`, `"wait": 29000000000`},
		{`"item": h'[0-9a-f]*'`, `"item": <the message as on the queue>`},
		{`"items": \[h'[0-9a-f]*'\]`, `"items": [<the message as on the queue>]`},
	} {
		dump = regexp.MustCompile(r.pattern).ReplaceAllString(dump, r.text)
	}
	lines := strings.SplitAfter(dump, "\n")
	slices.Sort(lines) // the processes' names are random
	return strings.Join(lines, "")
}

// compareBlock compares the text with what the document has after the marker. With GOLDEN=1 it writes it there.
func compareBlock(t *testing.T, path, text string) {
	t.Helper()
	document, err := os.ReadFile(path)
	must(t, err)
	before, rest, found := strings.Cut(string(document), keysMarker)
	block, after, closed := strings.Cut(rest, keysEnd)
	if !found || !closed {
		t.Fatalf("%s has no block after %q", path, keysMarker)
	}
	if block == text {
		return
	}
	if os.Getenv("GOLDEN") == "" {
		t.Fatalf("%s draws\n%s\nthe key space is\n%s\nIf that is meant: GOLDEN=1 go test -run Golden ./dserver", path, block, text)
	}
	must(t, os.WriteFile(path, []byte(before+keysMarker+text+keysEnd+after), 0o644))
}
