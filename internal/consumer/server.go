package consumer

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/lease"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// server is what a consumer keeps of a server while there is something to do, and its state for as long as the cache
// has room. It has no goroutine.
type server struct {
	id  string
	def *turn.Definition

	// Guarded by the consumer's mutex.
	newer     *server // in the cache's order of use
	older     *server
	*active          // while it is scheduled; nil of one that is idle
	alarm     *alarm // will look again; nil when there is none
	bytes     uint32 // what the cache counts for it
	scheduled bool   // in the run queue, or a worker has it
	look      bool   // the stored queue may have something: a turn is wanted without arrivals too
	marked    bool   // its ready mark may be set
	parts     bool   // its turn is about to clear the mark
	seen      bool   // and the mark was seen meanwhile, which may be the one before or another
	called    bool   // a row in the index of its label led here
	slow      bool   // its last turn was: casts do not join
	quick     bool   // its last turn was
	shares    bool   // it has one of its type's shares (share.go)
	crowded   bool   // of the turns: the last one had several arrivals, so more are on their way

	// Of the running turn, of which there is one at a time.
	calm    bool  // nothing came for as long as linger after emptied
	emptied int64 // when the last stored message was taken, in Unix nanoseconds
	turn.Memory
	apart *foreign // nil of most servers
}

// active is what a server has while it wants a turn or has one. The consumer's mutex guards it, but for its atomics.
type active struct {
	next     *server // in the run queue, or in the line of its type
	arrivals []*guest
	queued   int64 // when it wanted its turn, in Unix nanoseconds

	handling  atomic.Int64  // when the handlers of the running turn began, in Unix nanoseconds; 0 while none run
	goroutine atomic.Uint64 // that runs the turn
}

func (s *server) activate() {
	if s.active == nil {
		s.active = new(active)
	}
}

// alarm is a timer that looks again.
type alarm struct {
	*time.Timer
	due int64 // in Unix nanoseconds
}

// foreign is what a consumer keeps of a server that others have to do with.
type foreign struct {
	sight     lease.Sight          // of another process's lock
	unheard   [2]unheard           // of the lanes: their next message has no handler here
	rests     time.Time            // until when it is left alone, as others handle its next message
	row       bool                 // a row in the index of its label leads to it
	elsewhere time.Time            // since when it is of a label that is not run here; zero when it is
	wasIdle   bool                 // it had nothing to do at the last look from elsewhere
	idleAs    backend.Versionstamp // its version then
	stuck     time.Time            // since when nothing could be handled, or when it was parked last; zero when something was
}

// others is the foreign part, made when it is needed.
func (s *server) others() *foreign {
	if s.apart == nil {
		s.apart = new(foreign)
	}
	return s.apart
}

// handlesFor is how long the handlers of the running turn have been running.
func (a *active) handlesFor() time.Duration {
	began := a.handling.Load()
	if began == 0 {
		return 0
	}
	return time.Duration(time.Now().UnixNano() - began)
}

func (s *server) ref() tenant.Ref { return tenant.Ref{Type: s.def.Name, ID: s.id} }

// serverBytes is what the cache counts for a server beside its rows and its id: this struct, the value of its state, its place
// in the map, and what the allocator and the collector have of them.
const serverBytes = 384

// size is what the cache counts for a server, at most 4 GiB.
func (s *server) size() uint32 {
	size := serverBytes + int64(len(s.id))
	if s.State.Rows != nil {
		size += s.State.Rows.Bytes()
	}
	return uint32(min(size, math.MaxUint32))
}

// server finds or makes what is kept of a server. The mutex is held.
func (c *consumer) server(ref tenant.Ref) *server {
	t := c.types[ref.Type]
	s := t.servers[ref.ID]
	if s == nil {
		s = &server{id: ref.ID, def: t.def}
		s.bytes = s.size()
		t.servers[ref.ID] = s
		c.cache.add(s)
	}
	return s
}

// unmark is called before the mark is cleared in the store: a push in between sets it again.
func (c *consumer) unmark(s *server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.marked = false
}
