package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

const (
	manyTypes = 200

	// settles is how long a consumer may take to begin, watched how long it is measured then.
	settles = 3 * time.Second
	watched = 30 * time.Second

	typesVariable = "DSERVER_BENCH_TYPES"
	maxTypes      = 300 // goroutines, and watches, of a consumer of however many types
)

// idling is what a consumer that has nothing to do costs.
type idling struct {
	Goroutines int
	Watches    int64
	Reads      float64 // transactions a second
	CPU        float64 // part of one
}

// types measures consumers of one and of many types that have nothing to do, each in a process of its own.
var types = section{"types", func(ctx context.Context, dir string, _ options, w io.Writer) ([]promise, error) {
	const layout = "  %-10s %12s %12s %12s %12s\n"
	fmt.Fprintf(w, "\nConsumers that have nothing to do, for %v\n", watched)
	fmt.Fprintf(w, layout, "types", "goroutines", "watches", "reads/s", "CPU")
	var many idling
	for _, n := range []int{1, manyTypes} {
		if err := apart(ctx, dir, roleTypes, &many, typesVariable+"="+strconv.Itoa(n)); err != nil {
			return nil, err
		}
		fmt.Fprintf(w, layout, strconv.Itoa(n), strconv.Itoa(many.Goroutines), strconv.FormatInt(many.Watches, 10),
			fmt.Sprintf("%.1f", many.Reads), fmt.Sprintf("%.1f %%", 100*many.CPU))
	}
	return []promise{{
		what: strconv.Itoa(manyTypes) + " idle types, goroutines and watches",
		want: "under " + strconv.Itoa(maxTypes) + " each",
		got:  fmt.Sprintf("%d, %d", many.Goroutines, many.Watches),
		kept: many.Goroutines < maxTypes && many.Watches < maxTypes,
	}}, nil
}}

// beOfTypes is the process that is measured.
func beOfTypes(ctx context.Context, db backend.Database) error {
	n, err := strconv.Atoi(os.Getenv(typesVariable))
	if err != nil {
		return err
	}
	counted := &reading{Database: db}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var all []dserver.Type
	for i := range n {
		all = append(all, dserver.Define(fmt.Sprint("type", i), dserver.HandleCall(func(_ *dserver.Context, c *counter, _ increment) (int64, error) {
			c.Count++
			return c.Count, nil
		})))
	}
	ended := make(chan error, 1)
	go func() { ended <- dserver.Run(ctx, counted, all...) }()
	<-time.After(settles)
	began, reads, cpu := time.Now(), counted.reads.Load(), cpuTime()
	<-time.After(watched)
	took := time.Since(began).Seconds()
	got := idling{
		runtime.NumGoroutine(), counted.watches.Load(),
		float64(counted.reads.Load()-reads) / took, (cpuTime() - cpu).Seconds() / took,
	}
	if err := json.NewEncoder(os.Stdout).Encode(got); err != nil {
		return err
	}
	stop()
	return <-ended
}

// reading is a database that counts its read transactions, and the watches that are set.
type reading struct {
	backend.Database
	reads, watches atomic.Int64
}

func (r *reading) Read(ctx context.Context, fn func(tx backend.ReadTx) error) error {
	r.reads.Add(1)
	return r.Database.Read(ctx, func(tx backend.ReadTx) error { return fn(readingTx{tx, r}) })
}

type readingTx struct {
	backend.ReadTx
	of *reading
}

func (t readingTx) Watch(key backend.Key) backend.Watch {
	t.of.watches.Add(1)
	return &countedWatch{Watch: t.ReadTx.Watch(key), of: t.of}
}

// countedWatch counts itself until it is cancelled, as every watch of a consumer is in the end.
type countedWatch struct {
	backend.Watch
	of   *reading
	over atomic.Bool
}

func (w *countedWatch) Cancel() {
	if w.over.CompareAndSwap(false, true) {
		w.of.watches.Add(-1)
	}
	w.Watch.Cancel()
}
