package consumer

import (
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// places bounds the locked work that a consumer does at once, each a goroutine with a copy of a state that waits for the
// world outside. A server whose next message needs a place that is not free leaves the message on the queue, unlocked,
// and stands in line; its priority messages, and all other servers, go on. A place that becomes free is kept for the
// first in line until its next turn has ended, so nobody is passed over. The consumer's mutex guards it.
type places struct {
	free  int
	line  []tenant.Ref // of those that wait, first come first served
	waits map[tenant.Ref]struct{}
	kept  map[tenant.Ref]struct{} // for whom a place is kept
}

const (
	// defaultWork is what the world outside is asked at once, unless Options.Work says otherwise: more than most
	// services take, and goroutines and connections for it are cheap still.
	defaultWork = 1024

	// maxLine is how many servers wait in line. Others are found by their ready marks, some seconds later.
	maxLine = 1 << 14
)

func newPlaces(n int) places {
	if n <= 0 {
		n = defaultWork
	}
	return places{free: n, waits: map[tenant.Ref]struct{}{}, kept: map[tenant.Ref]struct{}{}}
}

// Book takes a place for a turn that is about to lock its server.
func (t *visit) Book() bool {
	if t.booked {
		return true
	}
	p, ref := &t.c.places, t.Ref
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	_, kept := p.kept[ref]
	switch {
	case t.c.taking.Err() != nil:
		return false
	case kept:
		delete(p.kept, ref)
	case p.free > 0:
		p.free--
	default:
		return false
	}
	t.booked = true
	return true
}

// unbook gives back what a turn has not used: the place that it took, and the one that was kept for it when it began. The
// mutex is held.
func (t *visit) unbook() {
	p, ref := &t.c.places, t.Ref
	if t.booked {
		t.booked = false
		t.c.leavePlace()
	}
	if _, kept := p.kept[ref]; kept && t.kept {
		delete(p.kept, ref)
		t.c.leavePlace()
	}
}

// awaitPlace is when a server is due again whose next message needs a place: when it has one.
func (t *visit) awaitPlace() nextTurn {
	if t.Waits == turn.Forever {
		t.Waits = 0
	}
	if t.c.standInLine(t.Ref) {
		return nextTurn{after: t.Waits}
	}
	return nextTurn{after: turn.Soonest(t.Waits, mailbox.Jittered(mailbox.LookInterval))}
}

// standInLine makes a server wait for a place. It reports false when the line is too long.
func (c *consumer) standInLine(ref tenant.Ref) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &c.places
	if _, waits := p.waits[ref]; waits {
		return true
	}
	if p.free > 0 { // since it was refused
		c.lookAt(ref)
		return true
	}
	if len(p.line) >= maxLine {
		return false
	}
	p.waits[ref] = struct{}{}
	p.line = append(p.line, ref)
	return true
}

// leavePlace makes a place free, or keeps it for the first in line. The mutex is held.
func (c *consumer) leavePlace() {
	p := &c.places
	if len(p.line) == 0 || c.closing {
		p.free++
		return
	}
	ref := p.line[0]
	p.line = p.line[1:]
	delete(p.waits, ref)
	p.kept[ref] = struct{}{}
	c.lookAt(ref)
}
