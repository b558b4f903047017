package sqlite

import (
	"maps"
	"slices"
	"sync"

	"github.com/dserver-go/dserver/backend"
)

// watches are those that have not fired. A commit of this process fires those of the keys that it wrote, at once;
// commits of other processes are found by the poll.
type watches struct {
	db   *DB
	kick chan struct{} // tells the poll that there is something to do

	mu       sync.Mutex
	keys     map[string][]*watch
	count    int
	suspects uint64 // how often another process may have committed
	isDue    bool   // the keys have not been compared since
	isClosed bool
}

// watch implements [backend.Watch].
type watch struct {
	watches *watches
	key     string
	seen    []byte // the value in the snapshot
	fired   chan struct{}
	isOver  bool // fired or cancelled; guarded by watches.mu
}

// Done implements [backend.Watch].
func (w *watch) Done() <-chan struct{} { return w.fired }

// Cancel implements [backend.Watch].
func (w *watch) Cancel() {
	w.watches.mu.Lock()
	defer w.watches.mu.Unlock()
	w.watches.remove(w)
}

// remove forgets w. The caller holds mu.
func (s *watches) remove(w *watch) {
	if w.isOver {
		return
	}
	w.isOver = true
	list := s.keys[w.key]
	for i, other := range list {
		if other == w {
			last := len(list) - 1
			list[i], list[last] = list[last], nil
			s.keys[w.key] = list[:last]
			s.count--
			break
		}
	}
	if len(s.keys[w.key]) == 0 {
		delete(s.keys, w.key)
	}
}

// fireKey fires the watches of key. The caller holds mu.
func (s *watches) fireKey(key string) {
	list := s.keys[key]
	delete(s.keys, key)
	s.count -= len(list)
	for _, w := range list {
		w.isOver = true
		close(w.fired)
	}
}

// suspected is read before a snapshot begins and handed to set.
func (s *watches) suspected() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.suspects
}

// set makes the watches of a snapshot that began after base and suspects were read. What was committed in between
// fires them now.
func (s *watches) set(made []*watch, base *record, suspects uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range made {
		if w.isOver {
			continue
		}
		s.keys[w.key] = append(s.keys[w.key], w)
		s.count++
		if s.isClosed || wroteAfter(base, backend.Key(w.key)) {
			s.fireKey(w.key)
		}
	}
	if s.suspects != suspects { // the keys were compared, or are being, without these
		s.isDue = true
	}
	s.wake()
}

func wroteAfter(base *record, key backend.Key) bool {
	for c := base.next.Load(); c != nil; c = c.next.Load() {
		if c.points.find(key) != nil || c.cleared.contains(key) {
			return true
		}
	}
	return false
}

func (s *watches) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// fire fires the watches of the keys that c wrote. The record is published already, so that set finds it.
func (s *watches) fire(c *record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == 0 {
		return
	}
	if len(s.keys) > c.points.count && c.cleared.isEmpty() {
		for _, block := range c.points.blocks {
			for _, w := range block {
				s.fireKey(string(w.key))
			}
		}
		return
	}
	for key := range s.keys {
		if k := backend.Key(key); c.points.find(k) != nil || c.cleared.contains(k) {
			s.fireKey(key)
		}
	}
}

// suspect says that another process may have committed. The next look compares the keys.
func (s *watches) suspect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspects++
	s.isDue = true
}

// due returns the keys if they are to be compared, and takes it that they are.
func (s *watches) due() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isDue {
		return nil
	}
	s.isDue = false
	return slices.Collect(maps.Keys(s.keys))
}

// close fires all watches, those to come as well.
func (s *watches) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isClosed = true
	for key := range s.keys {
		s.fireKey(key)
	}
}

func (s *watches) isWatching() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count > 0
}

// fireOthers fires the watches of key that saw another value, and reports whether there are any.
func (s *watches) fireOthers(key string, value []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.keys[key] {
		if !isSame(w.seen, value) {
			s.fireKey(key)
			return true
		}
	}
	return false
}
