package dserver_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// Counter is the state of the first program.
type Counter struct {
	Count int64
	Names map[string]int
}

type (
	Increment struct{ By int64 }
	Value     struct{ dserver.Returns[int64] }
	Refuse    struct{ dserver.Returns[int64] }
	Panic     struct{ Always bool }
)

var errRefused = &dserver.Error{Code: "refused", Text: "no"}

var counters = dserver.Define("counter",
	dserver.HandleCast(func(_ *dserver.Context, c *Counter, m Increment) error {
		c.Count += m.By
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, c *Counter, _ Value) (int64, error) { return c.Count, nil }),
	dserver.HandleCall(func(_ *dserver.Context, c *Counter, _ Refuse) (int64, error) {
		c.Count += 1000
		c.Names["x"] = 1
		return 0, errRefused
	}),
	dserver.HandleCast(func(_ *dserver.Context, c *Counter, _ Panic) error {
		c.Count += 1000
		panic("poison")
	}),
)

// start runs a consumer until the test ends.
func start(t testing.TB, db backend.Database, types ...dserver.Type) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- dserver.Run(ctx, db, types...) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, backend.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
	})
}

// patience is how long tests wait for what must happen. Only a failing test waits so long; a machine that others keep
// busy may need much of it.
const patience = 2 * time.Minute

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestCallSeesCast(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db := open()
		ctx := within(t)
		visits := counters.At(db, "visits")
		if err := visits.Cast(ctx, Increment{By: 1}); err != nil {
			t.Fatal(err)
		}
		start(t, db, counters)
		if err := visits.Cast(ctx, Increment{By: 2}); err != nil {
			t.Fatal(err)
		}
		n, err := dserver.Call(ctx, visits, Value{})
		if n != 3 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		if _, err := dserver.Call(ctx, visits, Refuse{}); !errors.Is(err, errRefused) {
			t.Fatal(err)
		}
		s, err := visits.State(ctx)
		if s.Count != 3 || err != nil {
			t.Fatalf("%+v, %v", s, err)
		}
		n, err = dserver.Query(ctx, visits, Value{})
		if n != 3 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	})
}

func TestManyCallers(t *testing.T) {
	db := backendtest.NewModel()
	start(t, db, counters)
	ctx := within(t)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 100 {
				if err := counters.At(db, "a").Cast(ctx, Increment{By: 1}); err != nil {
					t.Error(err)
				}
				if _, err := dserver.Call(ctx, counters.At(db, "a"), Refuse{}); !errors.Is(err, errRefused) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n, err := dserver.Call(ctx, counters.At(db, "a"), Value{}); n != 6400 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
}
