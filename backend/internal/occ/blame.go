package occ

import (
	"time"

	"github.com/dserver-go/dserver/backend"
)

// Blame is about the statements of the program's own tables that the members of a group have ([backend.Execer]). They run when
// the lock of all commits is held, before the group is written, so the group bounds them; and where the store refuses the
// group afterwards, as its COMMIT checks constraints that were deferred, nobody can tell whose statements are to blame. Then
// the members run again, those with statements one in a group, until one is refused alone.
type Blame struct {
	count int           // members of this group whose statements ran
	took  time.Duration // by statements, also of those that failed
	until time.Time     // there is one of them in a group
}

const (
	// maxExecuting members of a group have statements. PostgreSQL keeps the numbers of so many savepoints at hand.
	maxExecuting = 64

	// blameFor is how long it is looked for who is to blame: for longer than its statements may take.
	blameFor = backend.ExecLimit + time.Second
)

// Begin begins a group.
func (b *Blame) Begin() { b.count, b.took = 0, 0 }

// Admits reports whether the statements of t may run in this group. If not, it has lost.
func (b *Blame) Admits(t *Tx) bool {
	if b.took <= backend.ExecLimit && (b.count == 0 || b.count < maxExecuting && !time.Now().Before(b.until)) {
		return true
	}
	t.Result = ErrLost
	return false
}

// Took notes how long the statements of a member took, and whether they ran.
func (b *Blame) Took(d time.Duration, ran bool) {
	b.took += d
	if ran {
		b.count++
	}
}

// Fail gives t the error of one of its statements. If statements of other members ran before, it has seen their rows, and the
// error counts only if the group is committed.
func (b *Blame) Fail(t *Tx, err *backend.StatementError) { t.Result, t.isDoubtful = err, b.count > 0 }

// IsDecided reports whether t has a result that stays whatever becomes of its group.
func (t *Tx) IsDecided() bool { return t.Result != nil && !t.isDoubtful }

// Seek has the members with statements run one in a group for a while.
func (b *Blame) Seek() { b.until = time.Now().Add(blameFor) }

// HasRun reports whether statements ran in this group.
func (b *Blame) HasRun() bool { return b.count > 0 }

// Refuse sets the results of the members of a group that the store has refused by err, and rolled back. It reports whether
// their statements may be why.
func (b *Blame) Refuse(members []*Tx, err error) bool {
	if b.count == 0 {
		return false
	}
	b.until = time.Time{}
	if b.count > 1 {
		b.Seek()
	}
	for _, t := range members {
		switch {
		case t.IsDecided(): // it is no part of the group
		case b.count == 1 && len(t.statements) > 0 && t.Result == nil:
			t.Result = &backend.StatementError{SQL: "COMMIT", Index: -1, Cause: err}
		default:
			t.Result = ErrLost
		}
	}
	return true
}
