package dserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Safes that do not live for ever: an operator kills them and resets them, in the middle of whatever they do. The oracle
// knows when each message and each end began and was over, on one clock. What was sent after the last end is there, once;
// what had taken effect before an end began is gone; of the rest each is there once or not at all.

var mortalIDs = []string{"mortal 1", "mortal 2", "mortal 3"}

// mortals is what happened to the mortal safes.
type mortals struct {
	clock atomic.Int64
	over  chan struct{} // closed: no more ends
	still chan struct{} // closed: none runs
	mu    sync.Mutex
	sent  map[string]mortalFate
	ends  []mortalEnd
}

// mortalFate is a message to a mortal safe. A call that was answered has taken effect when it was over.
type mortalFate struct {
	server      string
	begun, over int64
	call        bool
	unknown     bool
	nothing     bool // its sender was told so
}

type mortalEnd struct {
	server      string
	begun, over int64
	kill        bool // and not a reset, which keeps the queue
}

func (m *mortals) stop() {
	close(m.over)
	<-m.still
}

// endMortals kills and resets through a handle without faults, until a part of the messages was sent: so some come after
// the last end, and some are in the middle of it.
func (b *bank) endMortals(ctx context.Context, db backend.Database, choose *rand.Rand) {
	m := &b.mortals
	defer close(m.still)
	part := choose.IntN(b.senders*b.messages/6 + 1)
	for m.count() <= part {
		select {
		case <-m.over:
			return
		case <-time.After(time.Duration(choose.IntN(100)) * time.Millisecond):
		}
		e := mortalEnd{server: mortalIDs[choose.IntN(len(mortalIDs))], kill: choose.IntN(2) == 0, begun: m.clock.Add(1)}
		end := safe.At(db, e.server).Reset
		if e.kill {
			end = safe.At(db, e.server).Kill
		}
		if err := end(context.WithoutCancel(ctx)); err != nil {
			b.t.Errorf("%+v: %v", e, err)
		}
		e.over = m.clock.Add(1)
		m.mu.Lock()
		m.ends = append(m.ends, e)
		m.mu.Unlock()
	}
}

func (m *mortals) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sent)
}

// slowToil is easyToil that takes a while, in which other things happen.
func slowToil(ctx *dserver.LockedContext, s Safe, m Toil) (string, error) {
	random := rand.New(rand.NewPCG(uint64(crc32.ChecksumIEEE([]byte(m.ID))), uint64(ctx.Attempt())))
	select {
	case <-time.After(time.Duration(random.IntN(20)) * time.Millisecond):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	return easyToil(ctx, s, m)
}

// sendMortal sends one message of some kind to a mortal safe.
func (b *bank) sendMortal(id string, choose *rand.Rand) {
	m := &b.mortals
	f := mortalFate{server: mortalIDs[choose.IntN(len(mortalIDs))], begun: m.clock.Add(1)}
	cast := func(message any) error {
		return b.tryMortal(f.server, func(ctx context.Context, s *dserver.DServer[Safe]) error { return s.Cast(ctx, message) })
	}
	call := func(message dserver.Request[string]) error {
		f.call = true
		return b.tryMortal(f.server, func(ctx context.Context, s *dserver.DServer[Safe]) error {
			got, err := dserver.Call(ctx, s, message)
			if err == nil && got != id {
				b.t.Errorf("%+v is answered %q", message, got)
			}
			return err
		})
	}
	var err error
	kind := choose.IntN(5)
	switch kind {
	case 0, 1:
		err = cast(Stow{id})
	case 2:
		err = cast(Wind{id, id, time.Duration(choose.IntN(100)) * time.Millisecond})
	case 3:
		err = call(Grab{ID: id})
	case 4:
		err = call(Toil{ID: id})
	}
	switch {
	case errors.Is(err, dserver.ErrKilled):
		f.nothing = true
	case err != nil && (errors.Is(err, backend.ErrCommitUnknown) || isInterrupted(err)):
		f.unknown = true
	case err != nil:
		b.t.Errorf("%s: %v", id, err)
	}
	f.over = m.clock.Add(1)
	m.mu.Lock()
	m.sent[id] = f
	m.mu.Unlock()
	if kind == 2 {
		b.note(id+" rang", fate{server: f.server, most: 1, parent: id}) // an end forgets the timer with what set it
	}
}

// tryMortal sends until it is known or unknown what became of a message.
func (b *bank) tryMortal(server string, fn func(ctx context.Context, s *dserver.DServer[Safe]) error) error {
	for n := 0; ; n++ {
		ctx, cancel := context.WithTimeout(context.Background(), b.limit)
		err := fn(ctx, safe.At(b.nodes[n%len(b.nodes)].db(), server))
		cancel()
		if errors.Is(err, backend.ErrCommitUnknown) || !isInterrupted(err) || !wasNotSent(err) {
			return err
		}
		<-time.After(time.Millisecond) // as in try
	}
}

// judgeMortals adds to the fates what may be seen of the messages to mortal safes.
func (b *bank) judgeMortals() {
	for id, f := range b.mortals.sent {
		least, most := 1, 1
		for _, e := range b.mortals.ends {
			switch {
			case e.server != f.server || e.over < f.begun:
			case f.over < e.begun && (f.call && !f.unknown || e.kill && !f.unknown):
				least, most = 0, 0 // it went with the old server
			default:
				least = 0
			}
		}
		if f.unknown {
			least = 0
		}
		if f.nothing {
			least, most = 0, 0
		}
		b.note(id, fate{server: f.server, least: min(least, most), most: most})
	}
}

const safeChildEnv = "DSERVER_TEST_SAFES"

// TestSafeChild is the processes that killSafeChildren kills.
func TestSafeChild(t *testing.T) {
	name := os.Getenv(safeChildEnv)
	if name == "" {
		t.Skip("the child process of another test")
	}
	if err := dserver.Run(untilOrphaned(), openNamed(t, name), safes(slowToil)); err != nil {
		t.Error(err)
	}
}

// killSafeChildren runs processes that consume safes, and kills them with SIGKILL at random moments, until the returned
// function is called. That says how many were killed.
func killSafeChildren(t *testing.T, name string, children int, random *rand.Rand) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	var kills atomic.Int64
	for range children {
		choose := rand.New(rand.NewPCG(random.Uint64(), 0))
		all.Go(func() {
			for ctx.Err() == nil {
				if err := killSafeChild(ctx, name, time.Duration(choose.IntN(2000))*time.Millisecond); err != nil {
					t.Error(err)
					return
				}
				if ctx.Err() == nil {
					kills.Add(1)
				}
			}
		})
	}
	stop = func() int {
		cancel()
		all.Wait()
		return int(kills.Load())
	}
	t.Cleanup(func() { stop() })
	return stop
}

// killSafeChild lets one process live for so long, or until ctx ends.
func killSafeChild(ctx context.Context, name string, life time.Duration) error {
	var out bytes.Buffer
	child := childOf("TestSafeChild", safeChildEnv, name)
	child.Stdout, child.Stderr = &out, &out
	if _, err := child.StdinPipe(); err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-time.After(life):
	}
	_ = child.Process.Kill() // it may have ended
	if err := child.Wait(); child.ProcessState.Exited() {
		return fmt.Errorf("a process ended by itself: %v\n%s", err, &out)
	}
	return nil
}
