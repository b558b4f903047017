package dserver

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
)

type (
	marked struct{ Done int }
	toil   struct{}
)

// The queue of a server is empty as soon as the lock is taken for its last message. A consumer that confirms just then
// that it is empty must leave the mark: if the holder dies, the mark alone leads others to the lock.
func TestLockedServerKeepsItsMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewModel()
		ctx, stop := context.WithCancel(t.Context())
		ended, works, hang := make(chan error, 1), make(chan struct{}), make(chan struct{})
		def := Define("marked", HandleLocked(
			func(*LockedContext, marked, toil) (int, error) { close(works); <-hang; return 1, nil },
			func(_ *Context, s *marked, _ toil, n int) error { s.Done += n; return nil }))
		go func() { ended <- Run(ctx, db, def) }()
		if err := def.At(db, "a").Cast(ctx, toil{}); err != nil {
			t.Fatal(err)
		}
		<-works
		other, ref := newConsumer(Consumer{}, db, []Type{def}), def.Ref("a")
		other.base = ctx
		other.closing = true // it has no workers
		if err := other.confirmEmpty(ref, tenantOf(ref)); err != nil {
			t.Fatal(err)
		}
		err := db.Read(ctx, func(tx backend.ReadTx) error {
			if mark, err := tx.Get(readyMark(ref)).Get(); err != nil || mark == nil {
				t.Errorf("the mark is %v, %v", mark, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		close(hang)
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}

// meddled is a database in whose first transaction something happens before the commit.
type meddled struct {
	backend.Database
	meddle func()
}

func (m *meddled) Transact(ctx context.Context, fn func(tx backend.Tx) error) error {
	return m.Database.Transact(ctx, func(tx backend.Tx) error {
		err := fn(tx)
		m.meddle()
		return err
	})
}

// A message that comes while its server's queue is confirmed to be empty is found and counted, though the counters of a
// server without a state are forgotten then.
func TestPushWhileTheQueueIsConfirmedEmpty(t *testing.T) {
	db := backendtest.NewModel()
	def := Define("marked", HandleCast(func(*Context, *marked, toil) error { return nil }))
	push := sync.OnceFunc(func() {
		if err := def.At(db, "a").Cast(t.Context(), toil{}); err != nil {
			t.Error(err)
		}
	})
	c, ref := newConsumer(Consumer{}, &meddled{db, push}, []Type{def}), def.Ref("a")
	c.base = t.Context()
	c.closing = true // it has no workers
	if err := c.confirmEmpty(ref, tenantOf(ref)); err != nil {
		t.Fatal(err)
	}
	if status, err := def.At(db, "a").Status(t.Context()); err != nil || status.Queued != 1 {
		t.Errorf("%d messages are counted, %v", status.Queued, err)
	}
	if err := Check(t.Context(), db, def); err != nil {
		t.Error(err)
	}
}

// A server is guessed while its mark is known to be set: a careful consumer claims what it finds by a mark, and a message
// that kills its process must not meet one that has not.
func TestOnlyALingeringServerIsGuessed(t *testing.T) {
	def := Define("marked", HandleCast(func(*Context, *marked, toil) error { return nil }))
	c, ref := newConsumer(Consumer{}, backendtest.NewModel(), []Type{def}), def.Ref("a")
	c.max = 0 // it has no workers
	s := c.server(ref)
	c.noteEmptied(ref)
	for _, lingers := range []bool{false, true} {
		s.marked = lingers
		c.guess(ref.Type, shardOf(ref.ID))
		if s.scheduled != lingers || s.look != lingers {
			t.Errorf("lingering (%v), the server is scheduled (%v) and looks (%v)", lingers, s.scheduled, s.look)
		}
	}
}

// readMeddled is a database in which something happens after its first read.
type readMeddled struct {
	backend.Database
	meddle func()
}

func (m *readMeddled) Read(ctx context.Context, fn func(tx backend.ReadTx) error) error {
	err := m.Database.Read(ctx, fn)
	m.meddle()
	return err
}

// What is pushed right after a scan rings a bell that is watched already.
func TestPushAfterAScanIsHeard(t *testing.T) {
	db := backendtest.NewModel()
	def := Define("marked", HandleCast(func(*Context, *marked, toil) error { return nil }))
	push := sync.OnceFunc(func() {
		if err := def.At(db, "a").Cast(t.Context(), toil{}); err != nil {
			t.Error(err)
		}
	})
	c := newConsumer(Consumer{}, &readMeddled{db, push}, []Type{def})
	watch, err := c.scanOnce(t.Context(), "marked", shardOf("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Cancel()
	select {
	case <-watch.Done():
	case <-time.After(10 * time.Second):
		t.Error("its bell is not heard")
	}
}

// halted is a server that has halted, with a turn that has seen it so.
func halted(t *testing.T) (c *consumer, seen *turn, def *Definition[marked]) {
	def = Define("marked", Settings[marked]{MaxAttempts: 1, Halt: true},
		HandleCast(func(*Context, *marked, toil) error { panic("it breaks") }))
	db, ref := backendtest.NewModel(), def.Ref("a")
	if err := def.At(db, "a").Cast(t.Context(), toil{}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, db, def) }()
	for status := (Status{}); !status.Halted; status, _ = def.At(db, "a").Status(t.Context()) {
		<-time.After(time.Millisecond)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	c = newConsumer(Consumer{}, db, []Type{def})
	c.base, c.closing = t.Context(), true // it has no workers
	c.process = &process{id: "P", db: db}
	seen = &turn{c: c, s: c.server(ref), keys: tenantOf(ref), limit: 1, marked: true}
	if err := db.Read(t.Context(), func(tx backend.ReadTx) error { return readHead(tx, seen.keys, &seen.head, state{}, true) }); err != nil {
		t.Fatal(err)
	}
	return c, seen, def
}

// A message that can be handled comes to a server that stands still, just as that is parked, or just before: the mark
// that it sets stays.
func TestPushWhileAServerIsParked(t *testing.T) {
	for _, before := range []bool{false, true} {
		c, seen, def := halted(t)
		db := c.db
		push := sync.OnceFunc(func() {
			if err := def.At(db, "a").Cast(t.Context(), toil{}, Priority()); err != nil {
				t.Error(err)
			}
		})
		if before {
			push()
		}
		c.db = &meddled{db, push}
		moved, err := seen.moveMark()
		if moved || err != nil {
			t.Errorf("it was parked: %v, %v", moved, err)
		}
		if err := Check(t.Context(), db, def); err != nil { // the mark is there
			t.Error(err)
		}
		c.db = db
		if err := db.Read(t.Context(), func(tx backend.ReadTx) error { return readHead(tx, seen.keys, &seen.head, state{}, true) }); err != nil {
			t.Fatal(err)
		}
		if len(seen.head.items) != 2 || seen.head.halts() {
			t.Errorf("%d messages, halts: %v", len(seen.head.items), seen.head.halts())
		}
	}
}

// Messages that come all the time behind what a turn reads change nothing that it sees, and yet each makes the move of the
// mark conflict: it is given up, and tried at the next look.
func TestParkingGivesWayToASenderThatDoesNotStop(t *testing.T) {
	c, seen, def := halted(t)
	db := c.db
	push := func(n int) {
		messages := make([]any, n)
		for i := range messages {
			messages[i] = toil{}
		}
		if err := def.At(db, "a").CastAll(t.Context(), messages); err != nil {
			t.Error(err)
		}
	}
	push(maxBatch + headRecords)
	if err := db.Read(t.Context(), func(tx backend.ReadTx) error { return readHead(tx, seen.keys, &seen.head, state{}, true) }); err != nil {
		t.Fatal(err)
	}
	pushed := 0
	c.db = &meddled{db, func() {
		if pushed++; pushed < 100 {
			push(1)
		}
	}}
	if moved, err := seen.moveMark(); moved || err != nil || pushed > 2 {
		t.Errorf("it was parked after %d attempts: %v, %v", pushed, moved, err)
	}
}
