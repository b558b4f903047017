package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
)

// A send costs no commit of its own, locked work two, and a full batch one. All commits of the process count: a few more
// than those of the turns come in while it beats and clears ready marks, and commitSlack is for them.
const (
	commitRounds   = 50
	commitSlack    = 0.25 // of a commit a round
	commitPatience = time.Minute
	fullBatch      = 256 // messages, as many as a turn takes
)

// desk is a state that changes with each message.
type desk struct{ N int }

// What is sent to desks.
type (
	note struct{ dserver.Returns[int] } // is handled in the turn alone
	pass struct{ dserver.Returns[int] } // is handled, and sent on to another server
	toil struct{ dserver.Returns[int] } // is handled by locked work
	page struct{ Ends bool }            // is one of a batch, perhaps the last
)

func (d *desk) add() (int, error) { d.N++; return d.N, nil }

// trays get what desks send on. Nobody runs them, so none of the commits is theirs.
var trays = dserver.Define[struct{}]("tray")

// desks are of a type of their own, so that their consumer finds nothing that another one has left. They call ended
// after the commit of locked work, and of a batch's last message.
func desks(typ string, ended func()) *dserver.Definition[desk] {
	return dserver.Define(typ,
		dserver.HandleCall(func(_ *dserver.Context, d *desk, _ note) (int, error) { return d.add() }),
		dserver.HandleCall(func(ctx *dserver.Context, d *desk, _ pass) (int, error) {
			ctx.Cast(trays.Ref("out"), page{})
			return d.add()
		}),
		dserver.HandleLockedCall(
			func(*dserver.LockedContext, desk, toil) (int, error) { return 0, nil },
			func(ctx *dserver.Context, d *desk, _ toil, _ int) (int, error) {
				ctx.AfterCommit(ended)
				return d.add()
			}),
		dserver.HandleCast(func(ctx *dserver.Context, d *desk, m page) error {
			if m.Ends {
				ctx.AfterCommit(ended)
			}
			_, err := d.add()
			return err
		}),
	)
}

// commits is the section that counts commits, on the store that is opened in a folder.
func commits(open func(dir string) (db backend.Database, end func() error, err error)) section {
	return section{"commits", func(ctx context.Context, dir string, o options, w io.Writer) (kept []promise, err error) {
		own, err := os.MkdirTemp(dir, "commits")
		if err != nil {
			return nil, err
		}
		store, end, err := open(own)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, end()) }()
		var counts []commitCount
		for run := range o.runs {
			c, err := countCommits(ctx, store, strconv.Itoa(run), commitRounds)
			if err != nil {
				return nil, fmt.Errorf("count commits: %w", err)
			}
			counts = append(counts, c)
		}
		printCommits(w, counts)
		return commitPromises(counts), nil
	}}
}

func openFile(dir string) (backend.Database, func() error, error) {
	db, err := sqlite.Open(file(dir))
	if err != nil {
		return nil, nil, err
	}
	return db, db.Close, nil
}

// commitCount is how many commits a round had, in one run.
type commitCount struct{ call, sends, locks, calledLocks, batch float64 }

// countCommits counts what consumers' processes commit while rounds follow each other, at servers named for the run.
func countCommits(ctx context.Context, store backend.Database, run string, rounds int) (c commitCount, err error) {
	ctx, cancel := context.WithTimeout(ctx, commitPatience)
	defer cancel()
	full := make([]any, fullBatch)
	for i := range full {
		full[i] = page{Ends: i == fullBatch-1}
	}
	var errs [5]error
	c.call, errs[0] = perCall(ctx, store, "call "+run, note{}, rounds)
	c.sends, errs[1] = perCall(ctx, store, "send "+run, pass{}, rounds)
	c.locks, errs[2] = perRound(ctx, store, "lock "+run, []any{toil{}}, rounds)
	c.calledLocks, errs[3] = perCall(ctx, store, "called lock "+run, toil{}, rounds)
	c.batch, errs[4] = perRound(ctx, store, "batch "+run, full, rounds)
	return c, errors.Join(errs[:]...)
}

// perCall calls once before it counts.
func perCall(
	ctx context.Context, store backend.Database, name string, m dserver.Request[int], rounds int,
) (n float64, err error) {
	db := &counting{Database: store}
	def := desks(name, func() {})
	stop := consume(ctx, db, def)
	defer func() { err = errors.Join(err, stop()) }()
	var before int64
	for i := range rounds + 1 {
		n, err := dserver.Call(ctx, def.At(db, name), m)
		if err := errors.Join(err, expect(n, i+1)); err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		if i == 0 {
			before = db.counted().commits
		}
	}
	return float64(db.counted().commits-before) / float64(rounds), nil
}

// perRound queues rounds, each of some messages, and then lets a consumer handle them. What it commits until the first
// round has ended is not counted, and neither are the pushes, which are others'.
func perRound(
	ctx context.Context, store backend.Database, name string, round []any, rounds int,
) (n float64, err error) {
	db := &counting{Database: store}
	ends := make(chan int64, rounds+1)
	def := desks(name, func() { ends <- db.counted().commits })
	for range rounds + 1 {
		if err := def.At(store, name).CastAll(ctx, round); err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
	}
	stop := consume(ctx, db, def)
	defer func() { err = errors.Join(err, stop()) }()
	var first, last int64
	for i := range rounds + 1 {
		select {
		case last = <-ends:
		case <-ctx.Done():
			return 0, fmt.Errorf("%s: round %d: %w", name, i, ctx.Err())
		}
		if i == 0 {
			first = last
		}
	}
	return float64(last-first) / float64(rounds), nil
}

// commitKind is a line of the table.
type commitKind struct {
	what string
	of   func(c *commitCount) float64
}

var (
	ofCall        = commitKind{"a call", func(c *commitCount) float64 { return c.call }}
	ofSends       = commitKind{"a call that sends to another server", func(c *commitCount) float64 { return c.sends }}
	ofLocks       = commitKind{"a queued message with locked work", func(c *commitCount) float64 { return c.locks }}
	ofCalledLocks = commitKind{"a call with locked work, which is queued first", func(c *commitCount) float64 { return c.calledLocks }}
	ofBatch       = commitKind{"256 queued messages", func(c *commitCount) float64 { return c.batch }}
)

func printCommits(w io.Writer, counts []commitCount) {
	const layout = "  %-46s %12s %26s\n"
	fmt.Fprintf(w, "\nCommits of the consumer's process in %d rounds, by round\n", commitRounds)
	fmt.Fprintf(w, layout, "", "commits", "fewest to most")
	for _, kind := range []commitKind{ofCall, ofSends, ofLocks, ofCalledLocks, ofBatch} {
		var all []float64
		for i := range counts {
			all = append(all, kind.of(&counts[i]))
		}
		fmt.Fprintf(w, layout, kind.what, kind.median(counts), fmt.Sprintf("%.2f to %.2f", slices.Min(all), slices.Max(all)))
	}
}

// is reports whether a round has so many commits: fewer are wrong too, as then something else was counted.
func (k commitKind) is(want float64, counts []commitCount) bool {
	return math.Abs(median(counts, k.of)-want) <= commitSlack
}

func (k commitKind) median(counts []commitCount) string {
	return fmt.Sprintf("%.2f", median(counts, k.of))
}

func commitPromises(counts []commitCount) []promise {
	return []promise{
		{
			what: "a send to another server, commits", want: "none beside the turn's",
			got:  ofSends.median(counts) + " with, " + ofCall.median(counts) + " without",
			kept: ofSends.is(1, counts) && ofCall.is(1, counts),
		},
		{what: "lock and release, commits", want: "2", got: ofLocks.median(counts), kept: ofLocks.is(2, counts)},
		{what: "a turn with 256 messages, commits", want: "1", got: ofBatch.median(counts), kept: ofBatch.is(1, counts)},
	}
}
