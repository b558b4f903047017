//go:build fdb

package fdb

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// Transactions that are ready while enough commits of their handle are under way wait in a line, and become one
// transaction of the cluster: a group. To the cluster, which looks after a thousand small transactions at a time, that is
// the larger part of the work saved. Where nobody waits, a group is one transaction.
//
//  1. What a group reads on and writes is what its members do, one after the other. Its read version is the oldest of
//     theirs: what each has read must be as it was since then, which is more than it needs. Where that was before the
//     time for which a member knows that it was so, the member goes with another group: its own last commit, or that of
//     its reads, would be a conflict.
//  2. None has read what another one writes, or it goes with another group. So the group has the effect of its members
//     one after the other, and who has read the end of a queue knows that nobody appends to it in the same commit.
//  3. Each has a versionstamp of its own: the group's ten bytes, and as order the number of its first Append in the group,
//     or, without any, one that no other member has.
//  4. A group that the cluster refuses was not committed, for the sake of one of its members or of one too old version.
//     Each is sent again alone, as it is. So is one that ended in an error that nobody expects, and was fenced off.
//  5. A group whose outcome is unknown is looked up as a whole (commit.go), as it was committed as a whole or not.
//  6. Nobody waits for long: who cannot go with a group flies at once, and after a moment (linePatience) so do all that wait,
//     whatever the commits that are under way wait for.
//
// The table of what happens when something dies is that of commit.go.
const (
	flights      = 4       // commits under way, behind which others wait
	groupMembers = 128     // at most
	groupMisses  = 64      // who cannot go with a group, before the others are not looked at
	groupBytes   = 1 << 20 // of what a group writes and has read, unless it is of one
)

// line is the transactions of a handle that wait to be sent. The zero value is an empty one.
type line struct {
	mu      sync.Mutex
	waiting []*tx // in the order of their coming
	flying  int   // groups under way
}

// join puts t into the line, and reports whether its caller has to see that the line is sent.
func (l *line) join(t *tx) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, t)
	if l.flying >= flights {
		return false
	}
	l.flying++
	return true
}

// hurry reports whether somebody waits, for whom its caller has to send the line.
func (l *line) hurry() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return false
	}
	l.flying++
	return true
}

// leave takes t out of the line. It reports false when t was taken to be sent.
func (l *line) leave(t *tx) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.waiting, t)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	return i >= 0
}

// next is the group that is to be sent now, without members when there is none: then the caller's flight has ended. More
// reports that some are left, who could not go with it, and whose flight the caller has to begin.
func (l *line) next() (g group, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.waiting[:0]
	for i, t := range l.waiting {
		if len(left) == groupMisses {
			left = append(left, l.waiting[i:]...)
			break
		}
		if !g.admit(t) {
			left = append(left, t)
		}
	}
	clear(l.waiting[len(left):])
	l.waiting = left
	switch {
	case len(g.members) == 0:
		l.flying--
	case len(left) > 0:
		l.flying++
		return g, true
	}
	return g, false
}

// hurryLine sends who waits.
func (db *DB) hurryLine() {
	if db.line.hurry() {
		db.commitLine()
	}
}

// commitLine sends the line, group by group, until nobody waits. Before it begins it lets those join who are about to:
// where many get their answers at once, their next commits come at once.
func (db *DB) commitLine() {
	runtime.Gosched()
	for {
		g, more := db.line.next()
		if more {
			go db.commitLine()
		}
		if len(g.members) == 0 {
			return
		}
		db.settle(&g)
	}
}

// group is transactions that are committed as one.
type group struct {
	members []*tx
	bytes   int
	places  int   // of Appends that are taken
	version int64 // as of which all members have read; 0 while all are blind
	since   int64 // the version before which that may not be

	written, read occ.Spans
	noted         int // of the members: these have what they write and read
}

// admit makes t the group's last member if it may be (2).
func (g *group) admit(t *tx) bool {
	places, version, since := max(t.appends, 1), g.version, max(g.since, t.since)
	if !t.isBlind() && (version == 0 || t.version < version) {
		version = t.version
	}
	if len(g.members) > 0 && (len(g.members) == groupMembers || g.bytes+t.bytes > groupBytes ||
		g.places+places > backend.MaxAppends || version != 0 && version < since || g.meets(t)) {
		return false
	}
	t.first, g.version, g.since = uint16(g.places), version, since
	g.members, g.bytes, g.places = append(g.members, t), g.bytes+t.bytes, g.places+places
	return true
}

// meets reports whether t has read what a member may write, or the other way about (2).
func (g *group) meets(t *tx) bool {
	for ; g.noted < len(g.members); g.noted++ {
		m := g.members[g.noted]
		for _, w := range m.writes {
			g.written.Add(w.keys())
		}
		for r := range m.conflicts.All() {
			g.read.Add(r)
		}
	}
	for r := range t.conflicts.All() {
		if g.written.Overlaps(r) {
			return true
		}
	}
	return slices.ContainsFunc(t.writes, func(w write) bool { return g.read.Overlaps(w.keys()) })
}

// step is a write of a transaction whose first Append has this number.
type step struct {
	write
	first uint16
}

// steps is what the members write, one after the other. Where many push to one queue, each of them counts its item, marks
// the server and rings the bell of its shard: of several writes of a key one is left.
func (g *group) steps() (steps []step) {
	var last map[string]int // the step that writes a key, unless a range was cleared since
	if len(g.members) > 1 {
		last = map[string]int{}
	}
	for _, t := range g.members {
		for _, w := range t.writes {
			i, again := last[string(w.key)]
			switch {
			case w.kind == clearRange:
				clear(last)
			case w.kind == stampKey: // nobody else's key
			case again && w.kind == add && steps[i].kind == add:
				steps[i].value = sum(steps[i].value, w.value)
				continue
			case again && w.kind != add:
				steps[i] = step{w, t.first}
				continue
			case last != nil:
				last[string(w.key)] = len(steps)
			}
			steps = append(steps, step{w, t.first})
		}
	}
	return steps
}

// sum is what two additions add.
func sum(a, b []byte) []byte {
	return binary.LittleEndian.AppendUint64(nil, binary.LittleEndian.Uint64(a)+binary.LittleEndian.Uint64(b))
}

// keys is where the write changes something.
func (w write) keys() backend.Range {
	switch key := backend.Key(w.key); w.kind {
	case clearRange:
		return backend.Range{Begin: key, End: w.value}
	case stampKey:
		return key[:len(key)-placeBytes-len(unknownStamp)-1].Below()
	default:
		return key.Only()
	}
}

// transaction is the group as the cluster gets it (1).
func (g *group) transaction(db *DB, s *slot) (tr fdb.Transaction, err error) {
	if tr, err = db.cluster.conn.CreateTransaction(); err != nil {
		return tr, err
	}
	if err = tr.Options().SetReadYourWritesDisable(); err != nil { // it reads nothing
		return tr, err
	}
	for _, t := range g.members {
		for r := range t.conflicts.All() {
			if err = tr.AddReadConflictRange(keyRange(r)); err != nil {
				return tr, err
			}
		}
	}
	for _, x := range g.steps() {
		x.apply(tr, x.first)
	}
	tr.SetReadVersion(cmp.Or(g.version, g.members[0].version))
	tr.SetVersionstampedValue(s.key, s.token())
	return tr, tr.AddReadConflictKey(s.fence)
}

// settle sends the group, and returns when its outcome is known or will never be.
func (db *DB) settle(g *group) {
	session := db.session.value.Load()
	if session == nil { // it was dropped, and nobody has needed a new one
		session = g.members[0].session
	}
	s := session.take()
	tr, err := g.transaction(db, s)
	if err != nil {
		s.release()
		g.conclude(func(*tx) error { return describe("begin a commit", err) })
		return
	}
	var stamp fdb.FutureKey
	if slices.ContainsFunc(g.members, func(t *tx) bool { return t.outcome != nil }) {
		stamp = tr.GetVersionstamp()
	}
	err = db.send(tr)
	switch {
	case err == nil:
		s.release()
		db.noteCommit(g, tr, stamp)
		g.conclude(func(*tx) error { return nil })
	case !isRefusal(err) && !isOurs(err):
		db.resolve(g, s, err)
	case len(g.members) > 1:
		s.release()
		db.settleApart(g)
	default:
		s.release()
		g.conclude(func(t *tx) error { return t.refused(err) })
	}
}

// settleApart sends each member alone (4).
func (db *DB) settleApart(g *group) {
	var alone sync.WaitGroup
	for _, t := range g.members {
		alone.Go(func() {
			var g group
			g.admit(t)
			db.settle(&g)
		})
	}
	alone.Wait()
}

// refused is what a commit that the cluster, or its library, refused means to the attempt.
func (t *tx) refused(err error) error {
	switch {
	case isOurs(err):
		return describe("commit", err)
	case codeOf(err) == codeTooOld && t.isSlow:
		return errTooOld
	}
	return &lost{cause: err}
}

// noteCommit makes versions known: to those who ask for theirs, and to the handle.
func (db *DB) noteCommit(g *group, tr fdb.Transaction, stamp fdb.FutureKey) {
	db.counted(g)
	if stamp == nil {
		if db.recent.isDue() {
			if version, err := tr.GetCommittedVersion(); err == nil {
				db.recent.note(version)
			}
		}
		return
	}
	place, err := stamp.Get()
	if err != nil {
		for _, t := range g.members {
			t.outcome.conclude(backend.Versionstamp{}, describe("read the version", err))
		}
		return
	}
	var v backend.Versionstamp
	copy(v[:], place)
	db.recent.note(int64(v.Sequence()))
	g.stamped(v)
}

// counted counts a group that was committed.
func (db *DB) counted(g *group) {
	db.counts.commits.Add(int64(len(g.members)))
	db.counts.groups.Add(1)
}

// stamped makes the members' versions known (3).
func (g *group) stamped(v backend.Versionstamp) {
	for _, t := range g.members {
		t.outcome.conclude(v.WithOrder(t.first), nil)
	}
}

// conclude tells each member how it ended.
func (g *group) conclude(of func(t *tx) error) {
	for _, t := range g.members {
		t.known <- of(t)
		t.db.commits.leave()
	}
}

// resolve finds out whether the group was committed, whose commit ended in cause (5).
func (db *DB) resolve(g *group, s *slot, cause error) {
	n := int64(len(g.members))
	db.counts.unknown.Add(n)
	found, err := db.lookUp(s)
	if err != nil {
		g.conclude(func(*tx) error {
			return fmt.Errorf("fdb: commit: %w: %w: %w", backend.ErrCommitUnknown, err, cause)
		})
		return
	}
	if n > 1 && found.isFenced() && !isOutage(cause) {
		db.counts.fenced.Add(n)
		db.settleApart(g)
		s.release() // its fence is after what they have read
		return
	}
	s.release()
	switch {
	case found.isGone:
		g.conclude(func(*tx) error { return errSessionGone })
	case found.isCommitted:
		db.counts.landed.Add(n)
		db.counted(g)
		g.stamped(found.stamp)
		g.conclude(func(*tx) error { return nil })
	case isOutage(cause):
		db.counts.fenced.Add(n)
		g.conclude(func(*tx) error { return &lost{cause: cause} })
	default:
		db.counts.fenced.Add(n)
		g.conclude(func(*tx) error { return describe("commit", cause) })
	}
}
