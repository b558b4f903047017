package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
)

// Many servers are made and used once, and then some of them again by a consumer that has seen none of them: what one costs
// while it is idle, and whether it is found as fast among many as among few.
const (
	fewServers    = 1_000
	manyServers   = 1_000_000
	activations   = 1_000
	maxSlowerThan = 1.2 // of an activation among few
	maxTrouble    = time.Second
)

var tenants = section{"tenants", func(ctx context.Context, dir string, _ options, w io.Writer) ([]promise, error) {
	few, err := useTenants(ctx, dir, fewServers)
	if err != nil {
		return nil, err
	}
	many, err := useTenants(ctx, dir, manyServers)
	if err != nil {
		return nil, err
	}
	const layout = "  %-46s %14s %14s %12s %12s\n"
	fmt.Fprintf(w, "\nservers that were used once, and %s of them called again, one by one, by a consumer that has seen none\n", thousands(activations))
	fmt.Fprintf(w, layout, "", "bytes each", "made a second", "p50 ms", "p99 ms")
	for _, t := range []tenancy{few, many} {
		fmt.Fprintf(w, layout, thousands(float64(t.servers))+" servers", thousands(float64(t.bytes)/float64(t.servers)), thousands(float64(t.servers)/t.took.Seconds()),
			inMillis(quantile(t.calls, 0.5)), inMillis(quantile(t.calls, 0.99)))
	}
	fmt.Fprintf(w, "  the one with a dead letter is found among %s servers in %s ms, among %s in %s ms\n",
		thousands(float64(few.servers)), inMillis(few.trouble), thousands(float64(many.servers)), inMillis(many.trouble))
	slower := float64(quantile(many.calls, 0.5)) / float64(quantile(few.calls, 0.5))
	return []promise{{
		what: "first call of one among a million servers, p50", want: fmt.Sprintf("under %.1f of one among 1,000", maxSlowerThan),
		got: fmt.Sprintf("%.2f", slower), kept: slower < maxSlowerThan,
	}, under("the one with a dead letter is found among a million", many.trouble, maxTrouble)}, nil
}}

// tenancy is what a store of servers cost.
type tenancy struct {
	servers int
	bytes   int64
	took    time.Duration   // to make them
	calls   []time.Duration // of activations, in order
	trouble time.Duration   // to find the one server with a dead letter
}

func useTenants(ctx context.Context, dir string, n int) (t tenancy, err error) {
	own, err := os.MkdirTemp(dir, "tenants")
	if err != nil {
		return t, err
	}
	t.servers = n
	began := time.Now()
	err = withConsumer(ctx, file(own), func(_ backend.Database, call func(i int) error) error {
		var next atomic.Int64
		var failed error
		var once sync.Once
		var ended sync.WaitGroup
		for range idleCallers {
			ended.Go(func() {
				for i := next.Add(1); i <= int64(n); i = next.Add(1) {
					if err := call(int(i)); err != nil {
						once.Do(func() { failed = err })
						return
					}
				}
			})
		}
		ended.Wait()
		return failed
	})
	if err != nil {
		return t, err
	}
	t.took = time.Since(began)
	info, err := os.Stat(file(own)) // it is closed, so the log is in it
	if err != nil {
		return t, err
	}
	t.bytes = info.Size()
	err = withConsumer(ctx, file(own), func(db backend.Database, call func(i int) error) error {
		for range activations {
			i := 1 + rand.IntN(n)
			began := time.Now()
			if err := call(i); err != nil {
				return err
			}
			t.calls = append(t.calls, time.Since(began))
		}
		t.trouble, err = findTrouble(ctx, db, n)
		return err
	})
	slices.Sort(t.calls)
	return t, err
}

func tenantAt(db backend.Database, i int) *dserver.DServer[counter] {
	return counters.At(db, "tenant-"+strconv.Itoa(i))
}

// findTrouble spoils one of n servers, and says how long it takes to find it.
func findTrouble(ctx context.Context, db backend.Database, n int) (took time.Duration, err error) {
	spoilt := tenantAt(db, n/2)
	if err := spoilt.Cast(ctx, spoil{}); err != nil {
		return 0, err
	}
	began, found := time.Now(), 0
	for trouble, err := range dserver.Troubles(ctx, db) {
		if err != nil {
			return 0, err
		}
		if trouble.Ref == spoilt.Ref() {
			found++
		}
	}
	if found != 1 {
		return 0, fmt.Errorf("the server with a dead letter was found %d times", found)
	}
	return time.Since(began), nil
}

// withConsumer runs fn beside a consumer in this process, on a handle of their own.
func withConsumer(ctx context.Context, name string, fn func(db backend.Database, call func(i int) error) error) error {
	db, err := open.Database(name)
	if err != nil {
		return err
	}
	stop := consume(ctx, db, counters)
	err = fn(db, func(i int) error {
		_, err := dserver.Call(ctx, tenantAt(db, i), increment{})
		return err
	})
	return errors.Join(err, stop(), db.Close())
}
