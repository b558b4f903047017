package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

const (
	idleServers   = 100_000
	idleCallers   = 256
	maxIdleBytes  = 64 << 20
	maxGoroutines = 100 // of a consumer, however many servers it has seen
)

// footprint is what a process occupies.
type footprint struct {
	Heap, Resident int64
	Goroutines     int
}

// idle measures a consumer that has used many servers once, in a process of its own.
var idle = section{"idle", func(ctx context.Context, dir string, _ options, w io.Writer) ([]promise, error) {
	var f [2]footprint
	if err := apart(ctx, dir, roleIdle, &f); err != nil {
		return nil, err
	}
	return printIdle(w, f[0], f[1]), nil
}}

// apart runs a part of this program in a process of its own, on a new file, and reads what it measured.
func apart(ctx context.Context, dir, role string, got any, variables ...string) error {
	own, err := os.MkdirTemp(dir, role)
	if err != nil {
		return err
	}
	return apartOn(ctx, file(own), role, got, variables...)
}

// apartOn is apart on a file that may be there.
func apartOn(ctx context.Context, path, role string, got any, variables ...string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, program, path)
	command.Env = append(append(os.Environ(), roleVariable+"="+role), variables...)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err == nil {
		err = json.Unmarshal(out, got)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", role, err)
	}
	return err
}

func printIdle(w io.Writer, before, after footprint) []promise {
	const layout = "  %-46s %12s %12s %12s\n"
	fmt.Fprintf(w, "\n%s idle servers that have been used once, in a process of its own\n", thousands(idleServers))
	fmt.Fprintf(w, layout, "", "heap MiB", "resident MiB", "goroutines")
	fmt.Fprintf(w, layout, "before", mebi(before.Heap), mebi(before.Resident), strconv.Itoa(before.Goroutines))
	fmt.Fprintf(w, layout, "after", mebi(after.Heap), mebi(after.Resident), strconv.Itoa(after.Goroutines))
	grown := max(after.Heap-before.Heap, after.Resident-before.Resident)
	return []promise{
		{
			what: "100,000 idle servers, memory", want: "under 64 MiB", got: mebi(grown) + " MiB",
			kept: grown < maxIdleBytes,
		},
		{
			what: "100,000 idle servers, goroutines", want: "none each", got: strconv.Itoa(after.Goroutines) + " in all",
			kept: after.Goroutines < maxGoroutines,
		},
	}
}

func mebi(bytes int64) string { return fmt.Sprintf("%.1f", float64(bytes)/(1<<20)) }

// beIdle is the process that is measured: it writes its footprint before and after.
func beIdle(ctx context.Context, db backend.Database) error {
	stop := consume(ctx, db, counters)
	if _, err := dserver.Call(ctx, counters.At(db, "first"), increment{}); err != nil {
		return err
	}
	before := currentFootprint()
	if err := useOnce(ctx, db); err != nil {
		return err
	}
	after := currentFootprint()
	if err := json.NewEncoder(os.Stdout).Encode([2]footprint{before, after}); err != nil {
		return err
	}
	return stop()
}

// useOnce calls each server once.
func useOnce(ctx context.Context, db backend.Database) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var ended sync.WaitGroup
	for range idleCallers {
		ended.Go(func() {
			for i := next.Add(1); i <= idleServers && ctx.Err() == nil; i = next.Add(1) {
				if _, err := dserver.Call(ctx, counters.At(db, "idle-"+strconv.FormatInt(i, 10)), increment{}); err != nil {
					cancel(err)
				}
			}
		})
	}
	ended.Wait()
	return context.Cause(ctx)
}

// currentFootprint is this process's, after it gave back what it does not need.
func currentFootprint() footprint {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return footprint{Heap: int64(m.HeapAlloc), Resident: residentBytes(), Goroutines: runtime.NumGoroutine()}
}
