package dserver_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// reasons is the errors of a server's dead letters, oldest first.
func reasons(t *testing.T, s *dserver.DServer[Ledger]) string {
	t.Helper()
	var all []string
	for _, d := range letters(t, s) {
		all = append(all, d.Err.Text)
	}
	return strings.Join(all, " ")
}

// refusing is ledgers that say what they refuse.
var refusing = ledgers.With(dserver.HandleCast(func(_ *dserver.Context, _ *Ledger, m Write) error { return fmt.Errorf("%s", m.Line) }))

func TestDeadLettersBeyondTheirNumberAreRemoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		def := refusing.With(dserver.Settings[Ledger]{DeadLetterCount: 3})
		store := newStore(t, def)
		db := store.Open()
		s, few := def.At(db, "x"), def.At(db, "few")
		for i := range 250 { // more than one transaction removes, some of them in rows of their own
			line := fmt.Sprint(i)
			if i%50 == 0 {
				line += strings.Repeat("x", 100_000)
			}
			must(t, s.Cast(ctx, Write{line}))
		}
		must(t, few.Cast(ctx, Write{"kept"}))
		run(t, dserver.Consumer{}, store.Open(), def)
		run(t, dserver.Consumer{}, store.Open(), def) // both sweep
		<-time.After(15 * time.Minute)
		if got := reasons(t, s); got != "247 248 249" || reasons(t, few) != "kept" || statusOf(t, s).DeadLetters != 3 {
			t.Errorf("left are %q and %q", got, reasons(t, few))
		}
		must(t, s.Cast(ctx, Write{"250"}))
		<-time.After(15 * time.Minute)
		if got := reasons(t, s); got != "248 249 250" {
			t.Errorf("left are %q", got)
		}
	})
}

func TestDeadLettersBeyondTheirAgeAreRemoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		def := refusing.With(dserver.Settings[Ledger]{DeadLetterAge: 2 * time.Hour})
		store := newStore(t, def, refusing)
		s := def.At(store.Open(), "x")
		run(t, dserver.Consumer{}, store.Open(), def)
		must(t, s.Cast(ctx, Write{"first"}))
		<-time.After(time.Hour)
		must(t, s.Cast(ctx, Write{"second"}))
		<-time.After(50 * time.Minute)
		if got := reasons(t, s); got != "first second" {
			t.Errorf("before their time are left %q", got)
		}
		<-time.After(30 * time.Minute)
		if got := reasons(t, s); got != "second" {
			t.Errorf("left are %q", got)
		}
		<-time.After(time.Hour)
		if got := reasons(t, s); got != "" || len(troubled(t, store.Open())) > 0 {
			t.Errorf("left are %q", got)
		}
	})
}

// Without a setting nothing is ever removed, nor what belongs to a label that the consumer does not list.
func TestDeadLettersAreKeptUnlessTheirTypeSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		bounded := refusing.With(dserver.Settings[Ledger]{DeadLetterAge: time.Hour, DeadLetterCount: 1})
		store := newStore(t, refusing)
		db := store.Open()
		s := refusing.At(db, "x")
		stop := run(t, dserver.Consumer{}, store.Open(), refusing)
		must(t, s.Cast(ctx, Write{"first"}))
		must(t, s.Cast(ctx, Write{"second"}))
		<-time.After(2 * time.Hour)
		stop()
		must(t, s.Pin(ctx, "eu"))
		stop = run(t, dserver.Consumer{}, store.Open(), bounded)
		<-time.After(2 * time.Hour)
		stop()
		if got := reasons(t, s); got != "first second" {
			t.Errorf("left are %q", got)
		}
		run(t, dserver.Consumer{Labels: []string{"eu"}}, store.Open(), bounded)
		<-time.After(time.Hour)
		if got := reasons(t, s); got != "" {
			t.Errorf("left are %q", got)
		}
	})
}

// Letters that are retried as others sweep are counted once: what is stored is checked at the end.
func TestSweepAndRetryNeverBothTakeALetter(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx, db := within(t), open()
		s := refusing.At(db, "x")
		const messages = 120
		for i := range messages {
			must(t, s.Cast(ctx, Write{fmt.Sprint(i)}))
		}
		stop := run(t, dserver.Consumer{}, db, refusing)
		eventually(t, "all are set aside", func() bool { return statusOf(t, s).DeadLetters == messages })
		stop()
		all, far := letters(t, s), refusing.At(open(), "x")
		done := make(chan int)
		go func() {
			taken := 0
			for _, d := range all {
				if far.Discard(ctx, d) == nil {
					taken++
				}
			}
			done <- taken
		}()
		run(t, dserver.Consumer{}, open(), refusing.With(dserver.Settings[Ledger]{DeadLetterCount: 10}))
		taken := <-done
		if status := statusOf(t, s); status.DeadLetters < 0 || int(status.DeadLetters) != len(letters(t, s)) || taken == 0 {
			t.Errorf("%d were discarded, and %+v of %d letters", taken, status, len(letters(t, s)))
		}
	})
}
