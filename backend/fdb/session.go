//go:build fdb

package fdb

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/dserver-go/dserver/backend"
)

// The books: below the prefix of a directory of their own,
//
//	("m", session)        the mark of a session: a beat that moves once a minute
//	("t", session, slot)  a token: the nonce and versionstamp of the last commit of that slot
//	                 "f"  below it: the slot's fence, which has no value
//
// A handle has one session and as many slots as it ever had commits under way at once. They are overwritten, so they do
// not pile up; Close clears them. What a dead process left is swept by any other: mark and tokens go in one
// transaction, so whoever finds its mark also finds its tokens.

// session is this handle's place in the books.
type session struct {
	mark   fdb.Key
	tokens backend.Key

	mu    sync.Mutex // guards what is below
	free  []*slot
	slots int64
	nonce uint64
}

// slot is where one commit at a time puts its token.
type slot struct {
	session *session
	key     fdb.Key          // of the token
	fence   fdb.Key          // nobody writes it: a conflict on it fences a group off
	nonce   [nonceBytes]byte // of the group that has the slot
}

const (
	sessionBytes = 16
	nonceBytes   = 8
)

func (s *space) mark(id []byte) fdb.Key       { return fdb.Key(s.books.With("m", id)) }
func (s *space) tokens(id []byte) backend.Key { return s.books.With("t", id) }
func (s *space) marks() fdb.KeyRange          { return keyRange(s.books.With("m").Below()) }
func keyRange(r backend.Range) fdb.KeyRange {
	return fdb.KeyRange{Begin: fdb.Key(r.Begin), End: fdb.Key(r.End)}
}

// openSession begins a session. It is made with the first commit, as who only reads needs none.
func (db *DB) openSession() (*session, error) {
	id := make([]byte, sessionBytes)
	rand.Read(id)
	sp := db.space.value.Load()
	s := &session{mark: sp.mark(id), tokens: sp.tokens(id)}
	err := db.insist(db.life, func(tr fdb.Transaction) error {
		_, err := tr.Get(s.mark).Get()
		tr.Set(s.mark, backend.CounterValue(1))
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// take returns a slot for one group.
func (s *session) take() *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	var x *slot
	if n := len(s.free); n > 0 {
		x, s.free = s.free[n-1], s.free[:n-1]
	} else {
		token := s.tokens.Int(s.slots)
		x = &slot{session: s, key: fdb.Key(token), fence: fdb.Key(token.Str("f"))}
		s.slots++
	}
	s.nonce++
	binary.BigEndian.PutUint64(x.nonce[:], s.nonce)
	return x
}

// release gives the slot back when the outcome of its group is known.
func (x *slot) release() {
	x.session.mu.Lock()
	defer x.session.mu.Unlock()
	x.session.free = append(x.session.free, x)
}

// token is what the group writes: the cluster puts the versionstamp after the nonce.
func (x *slot) token() []byte {
	token := make([]byte, nonceBytes+len(backend.Versionstamp{}), nonceBytes+len(backend.Versionstamp{})+4)
	copy(token, x.nonce[:])
	return placed(token, nonceBytes)
}

func (x *slot) isToken(value []byte) bool {
	return len(value) == nonceBytes+len(backend.Versionstamp{}) && bytes.HasPrefix(value, x.nonce[:])
}

// keep beats for the handle's session, and sweeps those that are dead, until the database is closed.
func (db *DB) keep() {
	sweep := sweep{db: db, seen: make(map[string]sighting)}
	for {
		beat := db.options.sessionBeat
		if idle(db.life, beat/2+upTo(beat, beat, 0)) != nil {
			return
		}
		if s := db.session.value.Load(); s != nil {
			db.beat(s)
			sweep.look()
		}
	}
}

// beat moves the session's mark. When it is gone, what was written since goes as well, since nobody would sweep it, and
// the next commit begins a new session.
func (db *DB) beat(s *session) {
	var isGone bool
	err := db.insist(db.life, func(tr fdb.Transaction) error {
		value, err := tr.Get(s.mark).Get()
		if err != nil {
			return err
		}
		if isGone = value == nil; isGone {
			tr.ClearRange(keyRange(s.tokens.Tree()))
			return nil
		}
		tr.Add(s.mark, backend.CounterValue(1))
		return nil
	})
	if err == nil && isGone {
		db.session.drop(s)
	}
}

// leaveSession clears the handle's session, after its last commit. What cannot be cleared is swept by others.
func (db *DB) leaveSession(ctx context.Context) {
	if s := db.session.value.Load(); s != nil {
		_ = db.insist(ctx, func(tr fdb.Transaction) error {
			_, err := tr.Get(s.mark).Get()
			tr.Clear(s.mark)
			tr.ClearRange(keyRange(s.tokens.Tree()))
			return err
		})
	}
}

// sweep is what a handle knows of other sessions.
type sweep struct {
	db     *DB
	seen   map[string]sighting // by mark
	looked time.Time
}

// sighting is a mark, and since when it is as it is, by this process's clock.
type sighting struct {
	beat  string
	since time.Time
}

// look reads all marks, and clears the sessions whose mark has not moved for too long. A gap between two looks, in
// which marks may have been hindered as this process was, begins the watch anew.
func (s *sweep) look() {
	marks, err := s.db.marks()
	if err != nil {
		return // the next look tries again
	}
	now := time.Now()
	if now.Sub(s.looked) > s.db.options.sessionDead/2 {
		clear(s.seen)
	}
	s.looked = now
	seen := make(map[string]sighting, len(marks))
	for _, kv := range marks {
		x, ok := s.seen[string(kv.Key)]
		if !ok || x.beat != string(kv.Value) {
			x = sighting{string(kv.Value), now}
		}
		seen[string(kv.Key)] = x
		if now.Sub(x.since) >= s.db.options.sessionDead {
			s.db.bury(kv.Key, x.beat)
		}
	}
	s.seen = seen
}

func (db *DB) marks() (marks []fdb.KeyValue, err error) {
	err = db.insist(db.life, func(tr fdb.Transaction) (err error) {
		marks, err = tr.Snapshot().GetRange(db.space.value.Load().marks(), fdb.RangeOptions{}).GetSliceWithError()
		return err
	})
	return marks, err
}

// bury clears a session whose mark is still at beat, with its tokens.
func (db *DB) bury(mark fdb.Key, beat string) {
	sp := db.space.value.Load()
	id, err := sessionOf(sp, mark)
	if err != nil {
		return // no mark of ours
	}
	_ = db.insist(db.life, func(tr fdb.Transaction) error { // the next look tries again
		value, err := tr.Get(mark).Get()
		if err == nil && string(value) == beat {
			tr.Clear(mark)
			tr.ClearRange(keyRange(sp.tokens(id).Tree()))
		}
		return err
	})
}

func sessionOf(sp *space, mark fdb.Key) ([]byte, error) {
	rest, _ := backend.Key(mark).CutPrefix(sp.books)
	elements, err := rest.Elements()
	if err != nil || len(elements) != 2 {
		return nil, fmt.Errorf("fdb: %x is no session's mark: %w", []byte(mark), err)
	}
	id, ok := elements[1].([]byte)
	if !ok {
		return nil, fmt.Errorf("fdb: %x is no session's mark", []byte(mark))
	}
	return id, nil
}

// idle waits, or returns why not.
func idle(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
