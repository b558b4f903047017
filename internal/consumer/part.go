package consumer

import (
	"time"

	"github.com/dserver-go/dserver/internal/tenant"
)

// What a turn that parts with its server (turn/part.go) means for who finds marks. Until the turn's commit is known the mark is
// still there, and a busy shard is read again and again:
//
//  1. From when the mark is about to be cleared the server counts as one without. What woke it before is in what the turn has
//     read, or makes it run again.
//  2. A push of this process wakes it as ever, and it counts as marked.
//  3. A mark that is found meanwhile may be the one that is cleared, or another, which was set right after: it wakes nobody. When
//     the commit is known the marks are read once more, for all servers of the shard that this happened to.
//  4. Where the mark was not cleared after all, the server is looked at, and counts as one to which more comes.

// partsBelow is what handlers may take in a turn, so that the next parts with the server: they run again when a message comes
// meanwhile.
const partsBelow = time.Millisecond

// Part is step 1, and part of turn.Host.
func (t *visit) Part() {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	t.s.parts, t.s.marked, t.s.look = true, false, false
}

// parted is steps 3 and 4.
func (t *visit) parted(isCleared bool) {
	c, s := t.c, t.s
	if !s.parts { // nobody else sets it
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !isCleared:
		s.look, s.marked, s.calm = true, true, false
	case s.seen:
		leaveToken(c.posts[tenant.ShardOf(t.Ref)].marks)
	}
	s.parts, s.seen = false, false
}

// wakeMarked wakes a server whose mark was found.
func (c *consumer) wakeMarked(ref tenant.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.types[ref.Type]; t != nil {
		if s := t.servers[ref.ID]; s != nil && s.parts {
			s.seen = true
			return
		}
	}
	c.lookAt(ref)
}
