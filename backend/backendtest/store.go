package backendtest

import (
	"slices"
	"sync"
	"testing"

	"github.com/tidwall/btree"

	"github.com/dserver-go/dserver/backend"
)

// Store is the model: a store in memory that keeps the contract of backend to the letter and never fails. It is the
// oracle of the conformance suite and the fake of the layers above, so it is written to be seen right:
//
//		version 1 ──> version 2 ──> version 3      each has all pairs, and the ranges that its commit changed
//		    ^ base of a transaction     ^ head
//
//	 1. A transaction's base is the head at its first read. It reads from there, and buffers its writes.
//	 2. At its commit, all versions after its base are compared with what it read. If one changed any of it, fn runs again.
//	 3. Else its writes are applied to a copy of the head's pairs, and that is the new head.
//
// Pairs are a tree whose copies share what is equal, and are never changed once they are in a version. Nothing is
// counted and nothing is swept: a version goes when no transaction can reach it, nor recall it. Only package time is used for time,
// and waiting is done on channels, so the model works in a testing/synctest bubble in which it was opened.
type Store struct {
	mu      sync.Mutex // guards all below, and next of each version
	head    *version
	synced  *version             // what is on the disk
	before  [remembered]*version // the version before sequence number n, at n % remembered
	watches watches
}

// remembered is how many commits back a transaction may recall.
const remembered = 64

// pairs are keys and values in the order of the keys.
type pairs = btree.Map[string, []byte]

// version is the store after one commit.
type version struct {
	sequence uint64 // counts commits, from 1
	pairs    *pairs
	changed  spans    // by this commit
	next     *version // nil in the head
}

// NewStore returns an empty store.
func NewStore() *Store {
	return newStore(&version{pairs: new(pairs)})
}

func newStore(v *version) *Store {
	return &Store{head: v, synced: v, watches: make(watches)}
}

// CutPower returns what a power cut at this moment would leave: a store without the asynchronous commits
// ([backend.AsyncCommitter]) that came last, and how many these are. This one goes on, and has nothing to do with it.
func (s *Store) CutPower() (left *Store, lost int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return newStore(&version{sequence: s.synced.sequence, pairs: s.synced.pairs.Copy()}), int(s.head.sequence - s.synced.sequence)
}

// NewModel returns a database on a new store.
func NewModel() backend.Database { return NewStore().Open() }

// Model is the Opener of the model.
func Model(testing.TB) func() backend.Database { return NewStore().Open }

// Open returns a handle, as another process would have it. Closing it ends nothing but the handle.
func (s *Store) Open() backend.Database {
	return &handle{store: s, closed: make(chan struct{})}
}

func (s *Store) snapshot() *version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head
}

// beforeCommit is the version before the commit that has stamp, nil when it is not remembered.
func (s *Store) beforeCommit(stamp backend.Versionstamp) *version {
	s.mu.Lock()
	defer s.mu.Unlock()
	sequence := stamp.Sequence()
	if v := s.before[sequence%remembered]; v != nil && v.sequence+1 == sequence {
		return v
	}
	return nil
}

// changedBetween reports whether the commit since or a later one, up to base, has changed any of read, if that is
// remembered.
func (s *Store) changedBetween(since backend.Versionstamp, base *version, read spans) bool {
	read = read.normal()
	first := s.beforeCommit(since)
	s.mu.Lock()
	defer s.mu.Unlock()
	for v := first; v != nil && v != base; v = v.next {
		if v.next != nil && v.next.changes(read) {
			return true
		}
	}
	return false
}

// viewOf returns a copy of v's pairs that may be changed. Copying marks the tree as shared, hence the lock.
func (s *Store) viewOf(v *version) *pairs {
	s.mu.Lock()
	defer s.mu.Unlock()
	return v.pairs.Copy()
}

// commit applies writes, unless what was read since base has changed. A base of nil has read nothing.
func (s *Store) commit(base *version, read spans, writes []write, isAsync bool) (stamp backend.Versionstamp, won bool) {
	read = read.normal()
	s.mu.Lock()
	defer s.mu.Unlock()
	if base != nil && base.changedSince(read) {
		return stamp, false
	}
	next := &version{sequence: s.head.sequence + 1, pairs: s.head.pairs.Copy()}
	stamp = backend.NewVersionstamp(next.sequence, 0)
	for _, w := range writes {
		next.changed = append(next.changed, w.apply(next.pairs, stamp))
	}
	s.before[next.sequence%remembered] = s.head
	s.head.next, s.head = next, next
	if !isAsync {
		s.synced = next
	}
	s.watches.fire(next.changed)
	return stamp, true
}

// changedSince reports whether a later version changed any of read. The store's mutex is held.
func (v *version) changedSince(read spans) bool {
	for later := v.next; later != nil; later = later.next {
		if later.changes(read) {
			return true
		}
	}
	return false
}

func (v *version) changes(read spans) bool { return slices.ContainsFunc(v.changed, read.overlap) }

// watch sets the watches of a snapshot. One whose key changed meanwhile fires at once, and so does one whose handle
// is being closed: Close may have fired the others already.
func (s *Store) watch(base *version, made []*watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range made {
		if w.handle.isClosed() || base.changedSince(spans{only(w.key)}) {
			w.fire()
			continue
		}
		s.watches.add(w)
	}
}
