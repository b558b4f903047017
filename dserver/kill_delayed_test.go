package dserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/chunk"
)

// delay writes a message that waits for its time, as After does, under a word of the test's choice.
func delay(t *testing.T, db backend.Database, ref dserver.Ref, word string, item []byte) {
	t.Helper()
	record, err := cbor.Marshal(map[string]any{"items": [][]byte{item}, "lane": 1})
	must(t, err)
	rows, err := chunk.Split(record)
	must(t, err)
	tenant := backend.NewKey("s", ref.Type, ref.ID)
	must(t, db.Transact(t.Context(), func(tx backend.Tx) error {
		tx.Set(tenant.Str("a", word), rows[0])
		for i, row := range rows[1:] {
			tx.Set(tenant.Str("a", word).Int(int64(i+1)), row)
		}
		tx.Stamp(tenant.Str("b", word))
		return nil
	}))
}

// However much waits for its time, the callers are told.
func TestKillTellsTheCallersOfWhateverWaits(t *testing.T) {
	db, ctx := newStore(t).Open(), within(t)
	s := ledgers.At(db, "x")
	for i := range 5 { // before any random word, and more than is read at once
		delay(t, db, s.Ref(), fmt.Sprint("!", i), bytes.Repeat([]byte{0xff}, 4_000_000))
	}
	for i := range 300 {
		delay(t, db, s.Ref(), fmt.Sprint("#", i), callOf(t, ""))
	}
	must(t, s.Cast(ctx, Note{1}))
	answers := make(chan error, 3)
	for range cap(answers) {
		reading := &reading{Database: db, began: make(chan struct{})}
		go func() { answers <- ledgers.At(reading, "x").Call(ctx, Read{}, nil, dserver.After(time.Hour)) }()
		<-reading.began
	}
	must(t, s.Kill(ctx))
	expectKilled(t, answers)
	expectGone(t, db)
}

// The callers of large messages are told, wherever a page of them ends.
func TestKillTellsTheCallersOfLargeMessagesThatWait(t *testing.T) {
	store := newStore(t)
	db, ctx := store.Open(), within(t)
	answers := make(chan error, 8)
	for range cap(answers) {
		reading := &reading{Database: store.Open(), began: make(chan struct{})}
		go func() {
			answers <- ledgers.At(reading, "x").Call(ctx, Page{strings.Repeat("x", 3_000_000)}, nil, dserver.After(time.Hour))
		}()
		<-reading.began
	}
	must(t, ledgers.At(db, "x").Kill(ctx))
	expectKilled(t, answers)
	expectGone(t, db)
}

// Who sends with After while a kill is under way is told, or has sent to the next server.
func TestKillTellsWhoSendsWithAfterBesideIt(t *testing.T) {
	store := newStore(t)
	ctx, answers := within(t), make(chan error, 1)
	reading := &reading{Database: store.Open(), began: make(chan struct{})}
	db := &meanwhileDB{recallsDB: &recallsDB{Database: store.Open()}}
	must(t, ledgers.At(db, "x").Cast(ctx, Note{1}))
	db.meanwhile = func() {
		go func() { answers <- ledgers.At(reading, "x").Call(ctx, Read{}, nil, dserver.After(time.Hour)) }()
		<-reading.began
	}
	must(t, ledgers.At(db, "x").Kill(ctx))
	expectKilled(t, answers)
	expectGone(t, db)
}

// A killer that dies leaves a mark, though nothing was queued that would have set one: whoever comes next tells the
// callers.
func TestKillOfWhatWaitsIsFoundWithoutAMessage(t *testing.T) {
	store := newStore(t, ledgers)
	db, ctx := store.Open(), within(t)
	s := ledgers.At(db, "x")
	for i := range 300 {
		delay(t, db, s.Ref(), fmt.Sprint("#", i), callOf(t, ""))
	}
	answers := make(chan error, 1)
	reading := &reading{Database: store.Open(), began: make(chan struct{})}
	go func() { answers <- ledgers.At(reading, "x").Call(ctx, Read{}, nil, dserver.After(time.Hour)) }()
	<-reading.began
	must(t, ledgers.At(&dying{db, 1}, "x").Kill(ctx))
	start(t, db, ledgers)
	expectKilled(t, answers)
	eventually(t, "all is buried", func() bool { return rows(t, db, "s")+rows(t, db, "r")+rows(t, db, "w") == 0 })
}

// Messages with After that were sent before a kill are dead although their time comes before they are buried, and those
// that were sent after it belong to the next server.
func TestMessagesWithAfterAreOfTheLifeInWhichTheyWereSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		def := desks(noWork)
		store := newStore(t, def)
		db, far := store.Open(), store.Open()
		d, ctx := def.At(db, "a"), context.Background()
		answer := make(chan error, 1)
		go func() {
			_, err := dserver.Call(ctx, def.At(far, "a"), Jots{}, dserver.After(time.Hour))
			answer <- err
		}()
		for range 600 {
			must(t, d.Cast(ctx, Jot{"old"}, dserver.After(time.Hour)))
		}
		synctest.Wait()
		must(t, def.At(&dying{db, 1}, "a").Kill(ctx)) // and nothing is buried
		for range 600 {
			must(t, d.Cast(ctx, Jot{"new"}, dserver.After(2*time.Hour)))
		}
		must(t, db.Transact(ctx, func(tx backend.Tx) error { // nobody looks, so the old ones come first
			tx.Clear(backend.NewKey("r").Tree())
			return nil
		}))
		run(t, dserver.Consumer{}, db, def)
		<-time.After(90 * time.Minute)
		if n := rows(t, db, "t"); n != 600 {
			t.Errorf("%d messages are to come", n)
		}
		if status := statusOf(t, d); status.Queued != 0 {
			t.Errorf("%+v", status)
		}
		must(t, d.Cast(ctx, Jot{"first"}))
		if err := <-answer; !errors.Is(err, dserver.ErrKilled) {
			t.Errorf("the caller got %v", err)
		}
		expectLog(t, d, "first")
		if n := rows(t, db, "s", "desk", "a", "a"); n != 600 {
			t.Errorf("%d messages wait for their time", n)
		}
		<-time.After(time.Hour)
		log, err := dserver.Call(ctx, d, Jots{})
		must(t, err)
		for _, line := range log[1:] {
			if line != "new" {
				t.Fatalf("%q was handled", line)
			}
		}
		if len(log) != 601 || rows(t, db, "s", "desk", "a", "a")+rows(t, db, "s", "desk", "a", "b") != 0 {
			t.Errorf("%d lines, and rows are left", len(log))
		}
	})
}
