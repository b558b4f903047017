package dserver_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Heap is a state that may be large, and slow to be written and read.
type Heap struct {
	Entries map[string]int
	Slow    Sluggish
}

// Sluggish is a value whose methods take their time.
type Sluggish struct{ N int }

var slowWrite atomic.Int64 // nanoseconds

func (s Sluggish) MarshalText() ([]byte, error) {
	<-time.After(time.Duration(slowWrite.Load()))
	return fmt.Append(nil, s.N), nil
}

func (s *Sluggish) UnmarshalText(text []byte) error {
	_, err := fmt.Sscan(string(text), &s.N)
	return err
}

// Amass adds entries.
type Amass struct{ N int }

var heaps = dserver.Define("heap",
	dserver.Settings[Heap]{MaxAttempts: 1},
	dserver.HandleCast(func(_ *dserver.Context, h *Heap, m Amass) error {
		for range m.N {
			h.Entries[fmt.Sprint("entry ", len(h.Entries))]++
		}
		h.Slow.N++
		return nil
	}))

// A turn whose time went by for its state says so, and what helps against it.
func TestStateThatIsTooSlowForATurnIsToldApart(t *testing.T) {
	t.Parallel()
	const many, advice = 30_000, "keep a large collection in a statediff.Map or statediff.List"
	for name, c := range map[string]struct {
		write, upgrade, scan time.Duration
		entries              int
		told                 []string
	}{
		"compared": {write: 5 * time.Second, entries: many,
			told: []string{"comparing the state with what is stored was not done within 4s: the state has 30001 rows", advice}},
		"small": {write: 5 * time.Second, entries: 7, told: []string{"comparing the state with what is stored was not done within 4s: the state has 8 rows"}},
		"upgraded": {upgrade: 6 * time.Second, entries: many,
			told: []string{"took too long", "loading the state took 6s: the state has 30001 rows", advice}},
		"fetched": {scan: 6 * time.Second, entries: 7, told: []string{"took too long", "loading the state took 6s"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, log := newStore(t, heaps), &logged{t: t}
				db := &slowScans{Database: store.Open()}
				stop := run(t, dserver.Consumer{}, db, heaps)
				s, ctx := heaps.At(db, "a"), context.Background()
				must(t, s.Call(ctx, Amass{c.entries}, nil))
				stop()
				slowWrite.Store(int64(c.write))
				db.wait.Store(int64(c.scan))
				types := heaps
				if c.upgrade > 0 {
					types = heaps.With(dserver.Upgrade(1, func(old Heap, h *Heap) error {
						<-time.After(c.upgrade)
						*h = old
						return nil
					}))
				}
				stop = run(t, dserver.Consumer{Logger: log.logger()}, db, types)
				synctest.Wait()
				must(t, heaps.At(store.Open(), "a").Cast(ctx, Amass{1}))
				<-time.After(30 * time.Second)
				slowWrite.Store(0)
				db.wait.Store(0)
				stop()
				told := ""
				for _, line := range log.lines {
					told += fmt.Sprint(line["error"], "\n")
				}
				for _, text := range c.told {
					if !strings.Contains(told, text) {
						t.Errorf("%q is not told, but %s", text, told)
					}
				}
				if strings.Contains(told, advice) != (c.entries == many) || strings.Contains(told, "handler did not return") {
					t.Errorf("it is told that %s", told)
				}
			})
		})
	}
}

// slowScans is a store that takes its time to find many rows.
type slowScans struct {
	backend.Database
	wait atomic.Int64 // nanoseconds
}

func (d *slowScans) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	return d.Database.Transact(ctx, func(tx backend.Tx) error {
		return fn(backend.Wrapped(&slowTx{tx, d}, tx))
	})
}

type slowTx struct {
	backend.Tx
	db *slowScans
}

func (x *slowTx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	if wait := time.Duration(x.db.wait.Load()); wait > 0 && o.Limit == 0 {
		<-time.After(wait)
	}
	return x.Tx.GetRange(r, o)
}
