package dserver

import (
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// server is what a consumer keeps of a server while there is something to do, and its state for as long as the cache
// has room. It has no goroutine.
type server struct {
	id  string
	def *definition

	// Guarded by the consumer's mutex.
	next      *server // in the run queue
	newer     *server // in the cache's order of use
	older     *server
	bytes     int64 // what the cache counts for it
	arrivals  []*arrival
	scheduled bool // in the run queue, or a worker has it
	look      bool // the stored queue may have something: a turn is wanted without arrivals too
	marked    bool // its ready mark may be set
	slow      bool // its last turn was: casts do not join

	timer *time.Timer // will look again; nil when there is none
	due   int64       // when, in Unix nanoseconds

	handling  atomic.Int64  // when the handlers of the running turn began, in Unix nanoseconds; 0 while none run
	goroutine atomic.Uint64 // that runs the turn

	// Of the running turn, of which there is one at a time.
	state   state
	emptied int64 // when the last stored message was taken, in Unix nanoseconds
	crowded bool  // the last turn had several arrivals: more are on their way
	passed  passed
	rare    *rare // nil of most servers
}

// rare is what a consumer keeps of a server while something is wrong with it.
type rare struct {
	doubted time.Time  // when what was remembered was wrong (recall.go)
	waiting [2]waiting // of the lanes
	sight   sight      // of another process's lock
	unheard [2]unheard // of the lanes: their next message has no handler here
	rests   time.Time  // until when it is left alone, as others handle its next message
	stuck   time.Time  // since when nothing could be handled, or when it was parked last; zero when something was
	blind   blindness  // of the state, which this program cannot read
}

// trouble is the rare part, made when it is needed.
func (s *server) trouble() *rare {
	if s.rare == nil {
		s.rare = new(rare)
	}
	return s.rare
}

// waiting is the back-off of a queue's head, as this process observes it: the stored duration, from first sight.
type waiting struct {
	stamp backend.Versionstamp
	count int
	until time.Time
}

// handlesFor is how long the handlers of the running turn have been running.
func (s *server) handlesFor() time.Duration {
	began := s.handling.Load()
	if began == 0 {
		return 0
	}
	return time.Duration(time.Now().UnixNano() - began)
}

func (s *server) ref() Ref { return Ref{s.def.name, s.id} }

// serverBytes is what the cache counts for a server beside its rows: this struct, its id and its places in maps.
const serverBytes = 512
