package occ

import (
	"maps"
	"slices"
	"sync"

	"github.com/dserver-go/dserver/backend"
)

// Watches are those that have not fired. A commit of this process fires those of the keys that it wrote, at once;
// commits of other processes are found by the store, which says so or has the watched keys compared.
type Watches struct {
	kick chan struct{} // tells who compares that there is something to do

	mu       sync.Mutex
	keys     map[string][]*Watch
	count    int
	suspects uint64 // how often another process may have committed
	isDue    bool   // the keys have not been compared since
	isAwake  bool   // who compares waits for commits, though there may be no watch
	isClosed bool
}

// Watch implements [backend.Watch].
type Watch struct {
	watches *Watches
	key     string
	seen    []byte // the value in the snapshot
	fired   chan struct{}
	isOver  bool // fired or cancelled; guarded by watches.mu
}

// Done implements [backend.Watch].
func (w *Watch) Done() <-chan struct{} { return w.fired }

// Cancel implements [backend.Watch].
func (w *Watch) Cancel() {
	w.watches.mu.Lock()
	defer w.watches.mu.Unlock()
	w.watches.remove(w)
}

// NewWatches returns none. A kick comes with the first, unless who compares is awake, and when there is something to compare.
func NewWatches() *Watches {
	return &Watches{kick: make(chan struct{}, 1), keys: map[string][]*Watch{}}
}

// Make returns a watch on key, of which seen is the value in the snapshot. It is nobody's before Set.
func (s *Watches) Make(key backend.Key, seen []byte) *Watch {
	return &Watch{watches: s, key: string(key), seen: seen, fired: make(chan struct{})}
}

// Kick tells who compares keys that there is something to do.
func (s *Watches) Kick() <-chan struct{} { return s.kick }

// remove forgets w. The caller holds mu.
func (s *Watches) remove(w *Watch) {
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
func (s *Watches) fireKey(key string) {
	list := s.keys[key]
	delete(s.keys, key)
	s.count -= len(list)
	for _, w := range list {
		w.isOver = true
		close(w.fired)
	}
}

// Suspected is read before a snapshot begins and handed to Set.
func (s *Watches) Suspected() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.suspects
}

// Set makes the watches of a snapshot that began after base was drawn and suspects were read. What was committed in
// between fires them now.
func (s *Watches) Set(made []*Watch, base *Base, suspects uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	isFirst := s.count == 0
	for _, w := range made {
		if w.isOver {
			continue
		}
		s.keys[w.key] = append(s.keys[w.key], w)
		s.count++
		if s.isClosed || wroteAfter(base.newest, backend.Key(w.key)) {
			s.fireKey(w.key)
		}
	}
	if s.suspects != suspects { // the keys were compared, or are being, without these
		s.isDue = true
	}
	if s.isDue || isFirst && !s.isAwake {
		s.Wake()
	}
}

func wroteAfter(base *Record, key backend.Key) bool {
	for c := base.next.Load(); c != nil; c = c.next.Load() {
		if c.points.find(key) != nil || c.cleared.contains(key) {
			return true
		}
	}
	return false
}

// Wake makes who compares look now.
func (s *Watches) Wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Fire fires the watches of the keys that c wrote. The record is published already, so that Set finds it.
func (s *Watches) Fire(c *Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == 0 {
		return
	}
	if len(s.keys) > c.points.count && c.cleared.isEmpty() {
		for w := range c.points.all() {
			s.fireKey(string(w.Key))
		}
		return
	}
	for key := range s.keys {
		if k := backend.Key(key); c.points.find(k) != nil || c.cleared.contains(k) {
			s.fireKey(key)
		}
	}
}

// Suspect says that another process may have committed. The next look compares the keys.
func (s *Watches) Suspect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspects++
	s.isDue = true
}

// Found says that the look in hand has found that another process may have committed, and returns the keys, which it compares.
func (s *Watches) Found() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspects++
	return slices.Collect(maps.Keys(s.keys))
}

// Due returns the keys if they are to be compared, and takes it that they are, with values that are read from now on.
func (s *Watches) Due() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isDue {
		return nil
	}
	s.isDue = false
	return slices.Collect(maps.Keys(s.keys))
}

// Close fires all watches, those to come as well.
func (s *Watches) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isClosed = true
	for key := range s.keys {
		s.fireKey(key)
	}
}

// Awaken says that who compares waits for commits from now on, whether there is a watch or not.
func (s *Watches) Awaken() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isAwake = true
}

// Doze lets who compares rest, when there is no watch: the first comes with a kick again. It reports false when there is one.
func (s *Watches) Doze() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isAwake = s.count > 0
	return !s.isAwake
}

// IsWatching reports whether there is a watch.
func (s *Watches) IsWatching() bool {
	watches, _ := s.Count()
	return watches > 0
}

// Count is how many watches there are, and on how many keys.
func (s *Watches) Count() (watches, keys int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count, len(s.keys)
}

// FireAll fires all watches, as the store can no longer tell.
func (s *Watches) FireAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.keys {
		s.fireKey(key)
	}
}

// FireOthers fires the watches of key that saw another value, and reports whether there are any.
func (s *Watches) FireOthers(key string, value []byte) bool {
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

// Saw sets the value in the snapshot, before Set.
func (w *Watch) Saw(seen []byte) { w.seen = seen }

// Foreign notes a commit of another process, and fires the watches of the keys that it may have changed.
func (s *Watches) Foreign(isChanged func(key string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspects++
	for key := range s.keys {
		if isChanged(key) {
			s.fireKey(key)
		}
	}
}
