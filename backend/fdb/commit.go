//go:build fdb

package fdb

import (
	"fmt"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/dserver-go/dserver/backend"
)

// Exactly-once commits. The cluster may lose the answer to a commit (1021), and the client library may give up on one
// that is still on its way (1039, 1031, a cancelled one). Only the first of these is fenced by the library: after the
// others, the commit can still come true when somebody has looked and not found it. So:
//
//  1. Every attempt that writes has its read version in hand before it is sent.
//  2. It has a read conflict on its token, and writes it: its nonce and its versionstamp, in a slot of this process's
//     session (session.go). Once sent, it is never cancelled, and it has no time limit.
//  3. An answer that is known to mean "not committed" is believed (errors.go has the list). Any other is unknown.
//  4. What is unknown is resolved before fn runs again or anything is returned: a transaction reads the token. If the
//     attempt's nonce is there, it was committed, and its version is known. If not, a void mark is written in its
//     place. That commits after the attempt's read version and conflicts with it, so afterwards the attempt has been
//     committed or never will be. This goes on until it is known.
//  5. If the session's mark is gone, others took this process for dead and cleared its tokens: nothing can be known
//     any more, and the answer is ErrCommitUnknown, never "not committed".
//  6. The next attempt has another nonce. A slot is used again when the outcome of the attempt before is known.
//
// What happens when something dies, or does not answer:
//
//	| when                                  | the process dies           | the cluster does not answer                   |
//	|---------------------------------------|----------------------------|-----------------------------------------------|
//	| in fn, before the commit is sent      | nothing happened           | waits; ctx ends it: not committed             |
//	| the commit is sent, not arrived       | committed or not           | unknown: 4 fences it or finds it              |
//	| it is committed, the answer is lost   | committed                  | unknown: 4 finds it                           |
//	| in 4, before the void mark            | as the attempt             | waits for the cluster; ctx ends the wait:     |
//	|                                       |                            | ErrCommitUnknown, 4 goes on in the background |
//	| the void mark's own answer is lost    | the attempt is void or not | 4 looks again, and finds one of both          |
//	| Close, while any of it is under way   |                            | ErrCommitUnknown and ErrClosed                |
//	| the process sleeps, its session dies  |                            | 5: ErrCommitUnknown                           |
//	| after the outcome is known            | the next owner of nothing: | the slot is overwritten by the next attempt,  |
//	|                                       | a sweep clears the session | no sooner                                     |

// commit sends the attempt and waits for its outcome.
func (t *tx) commit() error {
	t.flush()
	if t.err != nil {
		return t.verdict(nil)
	}
	if t.isTooOld() {
		return errTooOld
	}
	if err := t.prepare(); err != nil {
		return err
	}
	if !t.db.commits.enter() {
		return fmt.Errorf("fdb: begin a commit: %w", backend.ErrClosed)
	}
	known := make(chan error, 1)
	slot := t.slot
	t.slot = nil // it is settle's now
	go func() {
		defer t.db.commits.leave()
		known <- t.settle(slot)
	}()
	return t.await(known)
}

// prepare makes the attempt safe to send (1, 2).
func (t *tx) prepare() (err error) {
	if t.slot == nil {
		if t.slot, err = t.db.takeSlot(t.ctx, !t.began.IsZero()); err != nil {
			return err
		}
	}
	if !t.isVersionKnown {
		if _, err := t.tr.GetReadVersion().Get(); err != nil {
			return t.judge("begin a commit", err)
		}
	}
	if err := t.tr.AddReadConflictKey(t.slot.key); err != nil {
		return describe("begin a commit", err)
	}
	t.tr.SetVersionstampedValue(t.slot.key, t.slot.token())
	return t.disarm()
}

// settle sends the attempt, and returns when its outcome is known or will never be.
func (t *tx) settle(s *slot) error {
	var stamp fdb.FutureKey
	if t.outcome != nil {
		stamp = t.tr.GetVersionstamp()
	}
	err := t.db.send(t.tr)
	switch {
	case err == nil:
		s.release()
		return t.succeed(stamp)
	case codeOf(err) == codeTooOld && t.isOld():
		s.release()
		return errTooOld
	case isRefusal(err):
		s.release()
		return &lost{err}
	case isOurs(err):
		s.release()
		return describe("commit", err)
	}
	return t.resolve(s, err)
}

func (t *tx) succeed(stamp fdb.FutureKey) error {
	t.db.counts.commits.Add(1)
	if stamp == nil {
		return nil
	}
	place, err := stamp.Get()
	if err != nil {
		t.outcome.conclude(describe("read the version", err))
		return nil
	}
	var v backend.Versionstamp
	copy(v[:], place)
	t.outcome.stamped(v)
	return nil
}

// resolve finds out whether the attempt was committed, whose commit ended in cause (4, 5).
func (t *tx) resolve(s *slot, cause error) error {
	t.db.counts.unknown.Add(1)
	found, err := t.db.lookUp(s)
	if err != nil {
		return fmt.Errorf("fdb: commit: %w: %w: %w", backend.ErrCommitUnknown, err, cause)
	}
	s.release()
	switch {
	case found.isGone:
		return errSessionGone
	case found.isCommitted:
		t.db.counts.landed.Add(1)
		t.db.counts.commits.Add(1)
		if t.outcome != nil {
			t.outcome.stamped(found.stamp)
		}
		return nil
	}
	t.db.counts.fenced.Add(1)
	if isOutage(cause) {
		return &lost{cause}
	}
	return describe("commit", cause)
}

// found is what a resolution has learnt: committed, gone, or else fenced off.
type found struct {
	isCommitted, isGone bool
	stamp               backend.Versionstamp
}

// lookUp reads the slot's token and fences the attempt off if it is not there. It fails only when the database is
// closed meanwhile.
func (db *DB) lookUp(s *slot) (f found, err error) {
	err = db.insist(db.life, func(tr fdb.Transaction) error {
		mark, token := tr.Get(s.session.mark), tr.Get(s.key)
		alive, err := mark.Get()
		if err != nil {
			return err
		}
		value, err := token.Get()
		if err != nil {
			return err
		}
		f = found{}
		switch {
		case s.isToken(value):
			f.isCommitted, f.stamp = true, backend.Versionstamp(value[nonceBytes:])
		case alive == nil:
			f.isGone = true
		case !s.isVoid(value):
			tr.Set(s.key, s.void())
		}
		return nil
	})
	return f, err
}

// await waits for what settle returns, and not much longer than the caller does.
func (t *tx) await(known <-chan error) error {
	select {
	case err := <-known:
		return err
	case <-t.ctx.Done():
	case <-t.db.life.Done():
	}
	grace := time.NewTimer(t.db.options.grace)
	defer grace.Stop()
	select {
	case err := <-known:
		return err
	case <-grace.C:
	}
	if t.db.life.Err() != nil {
		return fmt.Errorf("fdb: commit: %w: %w", backend.ErrCommitUnknown, backend.ErrClosed)
	}
	return fmt.Errorf("fdb: commit: %w: %w", backend.ErrCommitUnknown, t.ctx.Err())
}
