package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// What waits, in great number: what it holds in the memory of its process.
const (
	waitingCallers  = 5_000
	waitingLocks    = 1_000
	waitingDelayed  = 20_000
	waitingMessages = 50_000

	maxCallerBytes = 16 << 10 // with the stack of its goroutine
	maxLockBytes   = 20 << 10 // with that of its work
	maxStoredBytes = 100      // of a message that waits in the store: there are no more of it here than a turn takes
)

// absent is a type that no consumer runs, and task one whose work waits.
type (
	absent struct{ Count int64 }
	task   struct{ Done int64 }
	work   struct{}
)

var absents = dserver.Define("absent",
	dserver.HandleCall(func(_ *dserver.Context, c *absent, _ increment) (int64, error) { return c.Count, nil }),
	dserver.HandleCast(func(*dserver.Context, *absent, bump) error { return nil }),
)

// held counts the work that waits for the end of its consumer.
type held struct{ waiting atomic.Int64 }

func (h *held) tasks() dserver.Type {
	return dserver.Define("task", dserver.HandleLocked(
		func(ctx *dserver.LockedContext, _ task, _ work) (int, error) {
			h.waiting.Add(1)
			<-ctx.Done()
			return 0, ctx.Err()
		},
		func(_ *dserver.Context, t *task, _ work, _ int) error {
			t.Done++
			return nil
		}))
}

// waits is how many bytes each kind of waiting takes, of the heap and of stacks.
type waits struct{ Caller, Lock, Delayed, Message float64 }

var waiting = section{"waiting", func(ctx context.Context, dir string, _ options, w io.Writer) ([]promise, error) {
	var got waits
	if err := apart(ctx, dir, roleWaiting, &got); err != nil {
		return nil, err
	}
	fmt.Fprint(w, "\nMemory of what waits, in a process of its own: bytes of the heap and of stacks\n")
	var kept []promise
	for _, one := range []struct {
		what   string
		number int
		got    float64
		limit  int
	}{
		{"a call that waits for its answer, with its goroutine", waitingCallers, got.Caller, maxCallerBytes},
		{"a lock, with its work", waitingLocks, got.Lock, maxLockBytes},
		{"a delayed message", waitingDelayed, got.Delayed, maxStoredBytes},
		{"a message on a queue", waitingMessages, got.Message, maxStoredBytes},
	} {
		fmt.Fprintf(w, "  %-56s %10.0f   (%s of them)\n", one.what, one.got, thousands(float64(one.number)))
		kept = append(kept, promise{
			what: "memory of " + one.what, want: "under " + thousands(float64(one.limit)) + " B",
			got: fmt.Sprintf("%.0f B", one.got), kept: one.got < float64(one.limit),
		})
	}
	return kept, nil
}}

// inUse is the memory of this process that is in use, of the heap and of stacks.
func inUse() float64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// beWaiting is the process that is measured.
func beWaiting(ctx context.Context, db backend.Database) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	h := &held{}
	consumers, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- dserver.Consumer{Work: waitingLocks}.Run(consumers, db, h.tasks()) }()
	got, err := measureWaits(ctx, db, h)
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

func measureWaits(ctx context.Context, db backend.Database, h *held) (got waits, err error) {
	nobody := absents.At(db, "nobody")
	if got.Delayed, err = sendMany(ctx, nobody, waitingDelayed, dserver.After(time.Hour)); err != nil {
		return got, err
	}
	if got.Message, err = sendMany(ctx, nobody, waitingMessages); err != nil {
		return got, err
	}
	if got.Caller, err = measureCallers(ctx, nobody); err != nil {
		return got, err
	}
	before := inUse()
	for i := range waitingLocks {
		if err := (dserver.Ref{Type: "task", ID: strconv.Itoa(i)}).At(db).Cast(ctx, work{}); err != nil {
			return got, err
		}
	}
	for h.waiting.Load() < waitingLocks {
		if err := pause(ctx); err != nil {
			return got, fmt.Errorf("%d of %d locks are held: %w", h.waiting.Load(), waitingLocks, err)
		}
	}
	got.Lock = (inUse() - before) / waitingLocks
	return got, nil
}

// sendMany sends casts, and tells what each of them takes here.
func sendMany(ctx context.Context, to *dserver.DServer[absent], n int, opts ...dserver.Option) (each float64, err error) {
	const together = 100
	batch := slices.Repeat([]any{bump{}}, together)
	if err := to.CastAll(ctx, batch, opts...); err != nil { // so that all is there that there is once
		return 0, err
	}
	before := inUse()
	for range n / together {
		if err := to.CastAll(ctx, batch, opts...); err != nil {
			return 0, err
		}
	}
	return (inUse() - before) / float64(n), nil
}

// measureCallers lets callers wait for a server that nobody runs.
func measureCallers(ctx context.Context, nobody *dserver.DServer[absent]) (each float64, err error) {
	calls, giveUp := context.WithCancel(ctx)
	var ended sync.WaitGroup
	defer ended.Wait()
	defer giveUp()
	status, err := nobody.Status(ctx)
	if err != nil {
		return 0, err
	}
	already, before := status.Queued, inUse()
	for range waitingCallers {
		ended.Go(func() { _, _ = dserver.Call(calls, nobody, increment{}) }) // it is given up
	}
	for {
		status, err := nobody.Status(ctx)
		if err == nil && status.Queued < already+waitingCallers {
			err = pause(ctx)
		} else if err == nil {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	return (inUse() - before) / waitingCallers, nil
}

func pause(ctx context.Context) error {
	select {
	case <-time.After(20 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
