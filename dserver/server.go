package dserver

import (
	"time"

	"github.com/dserver-go/dserver/backend"
)

// server is what a consumer keeps of a server while there is something to do, and its state for as long as the cache
// has room. It has no goroutine. The consumer's mutex guards all but state, which is the running turn's.
type server struct {
	id       string
	def      *definition
	next     *server // in the run queue
	newer    *server // in the cache's order of use
	older    *server
	arrivals []*arrival
	bytes    int64 // what the cache counts for it

	scheduled bool // in the run queue, or a worker has it
	look      bool // the stored queue may have something: a turn is wanted without arrivals too
	marked    bool // its ready mark may be set while its queue is empty
	slow      bool // its last turn was: casts do not join
	crowded   bool // its last turn had several arrivals: more are on their way
	timed     bool // a timer will look again
	emptied   time.Time // when the last stored message was taken

	state   state
	waiting waiting
}

// waiting is the back-off of a queue's head, as this process observes it: the stored duration, from first sight.
type waiting struct {
	stamp backend.Versionstamp
	count int
	until time.Time
}

func (s *server) ref() Ref { return Ref{s.def.name, s.id} }

// serverBytes is what the cache counts for a server beside its rows: this struct, its id and its places in maps.
const serverBytes = 512
