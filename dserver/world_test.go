package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// Journal is a state that tells what happened to it, and in which order.
type Journal struct {
	Lines []string
	Seen  map[string]int
}

func (j *Journal) write(line string) {
	j.Lines = append(j.Lines, line)
	j.Seen[line]++
}

type (
	Write  struct{ Line string }
	Append struct {
		dserver.Returns[int]
		Line string
	}
	Lines  struct{ dserver.Returns[[]string] }
	Reject struct{ Line string } // a cast that is refused
	Deny   struct {
		dserver.Returns[int]
		Line string
	}
	Blow struct{ Line string } // a cast that panics
	Burn struct {
		dserver.Returns[int]
		Line string
	}
)

var errDenied = &dserver.Error{Code: "denied", Text: "no"}

var journal = dserver.Define[Journal]("journal")

// journals writes down what it is told. What it is told to refuse or to break at, it writes down too, so that a trace
// of it shows.
var journals = journal.With(
	dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Write) error {
		j.write(m.Line)
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, j *Journal, m Append) (int, error) {
		j.write(m.Line)
		return len(j.Lines), nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, j *Journal, _ Lines) ([]string, error) { return j.Lines, nil }),
	dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Reject) error {
		j.write("refused " + m.Line)
		ctx.Cast(ctx.Self(), Write{"sent by refused " + m.Line})
		return errDenied
	}),
	dserver.HandleCall(func(ctx *dserver.Context, j *Journal, m Deny) (int, error) {
		j.write("refused " + m.Line)
		ctx.Cast(ctx.Self(), Write{"sent by refused " + m.Line})
		return 0, errDenied
	}),
	dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Blow) error {
		j.write("broken " + m.Line)
		ctx.Cast(ctx.Self(), Write{"sent by broken " + m.Line})
		panic("it broke at " + m.Line)
	}),
	dserver.HandleCall(func(ctx *dserver.Context, j *Journal, m Burn) (int, error) {
		j.write("broken " + m.Line)
		panic("it broke at " + m.Line)
	}),
)

// newStore is a store that is checked when the test has ended.
func newStore(t testing.TB, types ...dserver.Type) *backendtest.Store {
	t.Helper()
	store := backendtest.NewStore()
	t.Cleanup(func() { check(t, store.Open(), types...) })
	return store
}

// check compares what is stored with itself.
func check(t testing.TB, db backend.Database, types ...dserver.Type) {
	t.Helper()
	if err := dserver.Check(context.Background(), db, types...); err != nil {
		t.Errorf("what is stored is damaged: %v", err)
	}
}

// run runs a consumer until the returned function is called, which waits for its end.
func run(t testing.TB, c dserver.Consumer, db backend.Database, types ...dserver.Type) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, db, types...) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, backend.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// pass lets virtual time pass. Only in its last minute a consumer runs: in a day it looks for work so often that a test
// of several days would take minutes.
func pass(t testing.TB, d time.Duration, db backend.Database, types ...dserver.Type) {
	t.Helper()
	<-time.After(d - time.Minute)
	stop := run(t, dserver.Consumer{}, db, types...)
	<-time.After(time.Minute)
	stop()
}

// eventually waits until a condition of the store or of a handler holds. There is nothing to be told by, as the
// condition may be another process's: so it looks again and again.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	began, limit := time.Now(), time.After(patience)
	for !holds() {
		select {
		case <-limit:
			t.Fatalf("it never came true: %s", what)
		case <-time.After(max(2*time.Millisecond, time.Since(began)/50)): // minutes of virtual time are long
		}
	}
}

// lines reads a journal through its queue.
func lines(t testing.TB, s *dserver.DServer[Journal]) []string {
	t.Helper()
	l, err := dserver.Call(within(t), s, Lines{})
	if err != nil {
		t.Fatalf("Lines: %v", err)
	}
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func expectLines(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("the journal has %q, want %q", got, want)
	}
}

// seeded is a source of randomness. When the test fails, it prints the seed and how to use it again.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	const variable = "DSERVER_SEED"
	seed := rand.Uint64()
	if given, ok := os.LookupEnv(variable); ok {
		var err error
		seed, err = strconv.ParseUint(given, 10, 64)
		must(t, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay: %s=%d go test -run '^%s$'", variable, seed, t.Name())
		}
	})
	return rand.New(rand.NewPCG(seed, seed))
}

func numbered(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint(prefix, i)
	}
	return list
}
