package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
)

// The state costs what of it changed, not what there is of it.
const (
	fillStep     = 10_000 // entries that one message adds: a turn has the store's limit
	listLength   = 100_000
	maxMoveKeys  = 3
	maxGrowth    = 1.25 // of the bytes that a call writes, between the smallest and the largest state
	textBytes    = 60   // of an entry at least; see text
	textVaries   = 40
	settlesAfter = 3 // calls: a measurement begins behind them
)

var mapSizes = [3]int{10, 10_000, 100_000}

// book is a state with many entries, and shelf one with a long list.
type (
	book  struct{ Entries map[string]string }
	shelf struct{ Items []item }
	item  struct {
		ID   string `dserver:"id"`
		Text string
	}
)

// What is sent to them.
type (
	fill  struct{ From, To int }
	touch struct {
		dserver.Returns[int]
		Key, Text string
	}
	move struct {
		dserver.Returns[int]
		From, To int
	}
)

var books = dserver.Define("book",
	dserver.HandleCast(func(_ *dserver.Context, b *book, m fill) error {
		for i := m.From; i < m.To; i++ {
			b.Entries[key(i)] = text()
		}
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, b *book, m touch) (int, error) {
		b.Entries[m.Key] = m.Text
		return len(b.Entries), nil
	}),
)

var shelves = dserver.Define("shelf",
	dserver.HandleCast(func(_ *dserver.Context, s *shelf, m fill) error {
		for i := m.From; i < m.To; i++ {
			s.Items = append(s.Items, item{key(i), text()})
		}
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, s *shelf, m move) (int, error) {
		moved := s.Items[m.From]
		s.Items = append(s.Items[:m.From], s.Items[m.From+1:]...)
		s.Items = append(s.Items[:m.To], append([]item{moved}, s.Items[m.To:]...)...)
		return len(s.Items), nil
	}),
)

func key(i int) string { return "entry-" + strconv.Itoa(i) }

// text varies in length: a store that writes only what differs would flatter otherwise.
func text() string { return strings.Repeat("x", textBytes+rand.IntN(textVaries)) }

// cost is what a call to a server with a state of some size costs.
type cost struct {
	size     int
	p50, p99 time.Duration
	written  float64 // bytes to the disk
	keys     float64 // written or cleared by the turn
	bytes    float64 // of them, as the store's contract counts
}

var state = section{"state", func(ctx context.Context, dir string, o options, w io.Writer) ([]promise, error) {
	const layout = "  %-46s %12s %12s %12s %12s %12s\n"
	fmt.Fprint(w, "\nOne field changed in a state of many entries, 1 caller\n")
	fmt.Fprintf(w, layout, "entries", "p50 ms", "p99 ms", "bytes", "keys", "key bytes")
	show := func(name string, c cost) {
		fmt.Fprintf(w, layout, name+" of "+thousands(float64(c.size)), millis(c.p50), millis(c.p99),
			thousands(c.written), fmt.Sprintf("%.1f", c.keys), thousands(c.bytes))
	}
	var costs []cost
	for _, size := range mapSizes {
		c, err := mapCost(ctx, dir, size, o.length)
		if err != nil {
			return nil, fmt.Errorf("state of %d entries: %w", size, err)
		}
		show("map", c)
		costs = append(costs, c)
	}
	moved, err := moveCost(ctx, dir, o.length)
	if err != nil {
		return nil, fmt.Errorf("move in a list: %w", err)
	}
	show("list, an item moved,", moved)
	return statePromises(costs, moved), nil
}}

func statePromises(costs []cost, moved cost) []promise {
	small, medium, large := costs[0], costs[1], costs[2]
	rows, pages := large.bytes/small.bytes, large.written/medium.written
	return []promise{
		{
			what: "one of 100,000 entries changed, bytes of keys and values", want: fmt.Sprintf("at most %.2f of one of 10", maxGrowth),
			got: fmt.Sprintf("%.2f", rows), kept: rows <= maxGrowth,
		},
		{ // not one of 10: that state is on the same page as the rest of the server
			what: "one of 100,000 entries changed, bytes to the disk", want: fmt.Sprintf("at most %.2f of one of 10,000", maxGrowth),
			got: fmt.Sprintf("%.2f", pages), kept: pages <= maxGrowth || large.written == 0,
		},
		{
			what: "a move in a list of 100,000, keys written", want: fmt.Sprintf("at most %d", maxMoveKeys),
			got: fmt.Sprintf("%.1f", moved.keys), kept: moved.keys <= maxMoveKeys,
		},
	}
}

func mapCost(ctx context.Context, dir string, size int, length time.Duration) (cost, error) {
	return stateCost(ctx, dir, books, size, length, func(db backend.Database) (call func() error) {
		srv := books.At(db, "large")
		return func() error {
			n, err := dserver.Call(ctx, srv, touch{Key: key(rand.IntN(size)), Text: text()})
			return errors.Join(err, expect(n, size))
		}
	})
}

func moveCost(ctx context.Context, dir string, length time.Duration) (cost, error) {
	return stateCost(ctx, dir, shelves, listLength, length, func(db backend.Database) (call func() error) {
		srv := shelves.At(db, "large")
		return func() error {
			n, err := dserver.Call(ctx, srv, move{From: rand.IntN(listLength), To: rand.IntN(listLength)})
			return errors.Join(err, expect(n, listLength))
		}
	})
}

func expect(got, want int) error {
	if got != want {
		return fmt.Errorf("the state has %d entries, not %d", got, want)
	}
	return nil
}

// stateCost fills a server of a type and measures calls to it.
func stateCost(
	ctx context.Context, dir string, typ dserver.Type, size int, length time.Duration,
	caller func(db backend.Database) (call func() error),
) (c cost, err error) {
	own, err := os.MkdirTemp(dir, "state")
	if err != nil {
		return cost{}, err
	}
	store, err := sqlite.Open(file(own))
	if err != nil {
		return cost{}, err
	}
	db := &counting{Database: store}
	stop := consume(ctx, db, typ)
	defer func() { err = errors.Join(err, stop(), store.Close()) }()
	srv := dserver.Ref{Type: typ.Name(), ID: "large"}.At(db)
	for from := 0; from < size; from += fillStep {
		if err := srv.Call(ctx, fill{from, min(size, from+fillStep)}, nil); err != nil { // one turn each
			return cost{}, err
		}
	}
	return measureCost(size, length, db, caller(db))
}

func measureCost(size int, length time.Duration, db *counting, call func() error) (cost, error) {
	for range settlesAfter {
		if err := call(); err != nil {
			return cost{}, err
		}
	}
	var times histogram
	before, count := currentUsage(), db.counted()
	for start := time.Now(); time.Since(start) < length; {
		began := time.Now()
		if err := call(); err != nil {
			return cost{}, err
		}
		times.record(time.Since(began))
	}
	used, wrote := currentUsage().minus(before), db.counted().minus(count)
	per := func(n int64) float64 { return float64(n) / float64(times.total) }
	return cost{
		size: size, p50: times.percentile(50), p99: times.percentile(99),
		written: per(used.Written), keys: per(wrote.keys), bytes: per(wrote.bytes),
	}, nil
}
