package consumer

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/operate"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// The queue of a server is empty as soon as the lock is taken for its last message. A consumer that confirms just then
// that it is empty must leave the mark: if the holder dies, the mark alone leads others to the lock.
func TestLockedServerKeepsItsMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewModel()
		ctx, stop := context.WithCancel(t.Context())
		ended, works, hang := make(chan error, 1), make(chan struct{}), make(chan struct{})
		def := define(locking(
			func(*turn.WorkAttempt) (int, error) { close(works); <-hang; return 1, nil }))
		go func() { ended <- Run(ctx, db, Options{}, def) }()
		if err := handleOf(db, def).Cast(ctx, toil, tenant.How{}); err != nil {
			t.Fatal(err)
		}
		<-works
		other, ref := newConsumer(db, Options{}, def), refOf(def)
		other.Base = ctx
		other.closing = true // it has no workers
		if err := confirmed(other, ref); err != nil {
			t.Fatal(err)
		}
		err := db.Read(ctx, func(tx backend.ReadTx) error {
			if mark, err := tx.Get(tenant.ReadyMark(ref)).Get(); err != nil || mark == nil {
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

// A message that comes while its server's queue is confirmed to be empty is found and counted, though the counters of a
// server without a state are forgotten then.
func TestPushWhileTheQueueIsConfirmedEmpty(t *testing.T) {
	db := backendtest.NewModel()
	def := define()
	push := sync.OnceFunc(func() {
		if err := handleOf(db, def).Cast(t.Context(), toil, tenant.How{}); err != nil {
			t.Error(err)
		}
	})
	c, ref := newConsumer(&meddled{db, push}, Options{}, def), refOf(def)
	c.Base = t.Context()
	c.closing = true // it has no workers
	if err := confirmed(c, ref); err != nil {
		t.Fatal(err)
	}
	if status, err := operatorOf(db, def).Status(t.Context()); err != nil || status.Queued != 1 {
		t.Errorf("%d messages are counted, %v", status.Queued, err)
	}
	if err := checkOf(t.Context(), db, def); err != nil {
		t.Error(err)
	}
}

// A server is guessed while its mark is known to be set: a careful consumer claims what it finds by a mark, and a message
// that kills its process must not meet one that has not.
func TestOnlyALingeringServerIsGuessed(t *testing.T) {
	def := define()
	c, ref := newConsumer(backendtest.NewModel(), Options{}, def), refOf(def)
	c.max = 0 // it has no workers
	s := c.server(ref)
	c.noteEmptied(ref)
	for _, lingers := range []bool{false, true} {
		s.marked = lingers
		c.guess(tenant.ShardOf(ref))
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
	def := define()
	push := sync.OnceFunc(func() {
		if err := handleOf(db, def).Cast(t.Context(), toil, tenant.How{}); err != nil {
			t.Error(err)
		}
	})
	c := newConsumer(&readMeddled{db, push}, Options{}, def)
	look, err := c.scanOnce(t.Context(), tenant.ShardOf(refOf(def)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer look.watch.Cancel()
	select {
	case <-look.watch.Done():
	case <-time.After(10 * time.Second):
		t.Error("its bell is not heard")
	}
}

// halted is a server that has halted, with a turn that has seen it so.
func halted(t *testing.T) (c *consumer, seen *visit, def *turn.Definition) {
	def = define(trying(1), halting, handling(func(*marked) error { panic("it breaks") }))
	db, ref := backendtest.NewModel(), refOf(def)
	if err := handleOf(db, def).Cast(t.Context(), toil, tenant.How{}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, db, Options{}, def) }()
	for status := (operate.Status{}); !status.Halted; status, _ = operatorOf(db, def).Status(t.Context()) {
		<-time.After(time.Millisecond)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	c = newConsumer(db, Options{}, def)
	c.Base, c.closing = t.Context(), true // it has no workers
	p, release := mailbox.Acquire(db)
	t.Cleanup(release)
	c.Process = p
	seen = c.visit(c.server(ref), 1)
	seen.Marked = true
	if err := db.Read(t.Context(), func(tx backend.ReadTx) error { return tenant.ReadHead(tx, seen.Keys, &seen.Head, tenant.Known{}, true) }); err != nil {
		t.Fatal(err)
	}
	return c, seen, def
}

// A message that can be handled comes to a server that stands still, just as that is parked, or just before: the mark
// that it sets stays.
func TestPushWhileAServerIsParked(t *testing.T) {
	for _, before := range []bool{false, true} {
		c, seen, def := halted(t)
		db := c.DB
		push := sync.OnceFunc(func() {
			if err := handleOf(db, def).Cast(t.Context(), toil, tenant.How{Priority: true}); err != nil {
				t.Error(err)
			}
		})
		if before {
			push()
		}
		c.DB = &meddled{db, push}
		moved, err := seen.moveMark()
		if moved || err != nil {
			t.Errorf("it was parked: %v, %v", moved, err)
		}
		if err := checkOf(t.Context(), db, def); err != nil { // the mark is there
			t.Error(err)
		}
		c.DB = db
		if err := db.Read(t.Context(), func(tx backend.ReadTx) error { return tenant.ReadHead(tx, seen.Keys, &seen.Head, tenant.Known{}, true) }); err != nil {
			t.Fatal(err)
		}
		if len(seen.Head.Items) != 2 || seen.Head.Halts() {
			t.Errorf("%d messages, halts: %v", len(seen.Head.Items), seen.Head.Halts())
		}
	}
}

// Messages that come all the time behind what a turn reads change nothing that it sees, and yet each makes the move of the
// mark conflict: it is given up, and tried at the next look.
func TestParkingGivesWayToASenderThatDoesNotStop(t *testing.T) {
	c, seen, def := halted(t)
	db := c.DB
	push := func(n int) {
		messages := make([]tenant.Message, n)
		for i := range messages {
			messages[i] = toil
		}
		if err := handleOf(db, def).CastAll(t.Context(), messages, tenant.How{}); err != nil {
			t.Error(err)
		}
	}
	push(tenant.MaxBatch + tenant.HeadRecords)
	if err := db.Read(t.Context(), func(tx backend.ReadTx) error { return tenant.ReadHead(tx, seen.Keys, &seen.Head, tenant.Known{}, true) }); err != nil {
		t.Fatal(err)
	}
	pushed := 0
	c.DB = &meddled{db, func() {
		if pushed++; pushed < 100 {
			push(1)
		}
	}}
	if moved, err := seen.moveMark(); moved || err != nil || pushed > 2 {
		t.Errorf("it was parked after %d attempts: %v, %v", pushed, moved, err)
	}
}

// confirmed is confirmEmpty for a server that the consumer has not looked at yet.
func confirmed(c *consumer, ref tenant.Ref) error {
	c.mu.Lock()
	s := c.server(ref)
	c.mu.Unlock()
	return c.visit(s, 1).confirmEmpty()
}
