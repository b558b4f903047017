//go:build fdb

package fdb

import (
	"fmt"
	"sync"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/dserver-go/dserver/backend"
)

// Exactly-once commits. The cluster may lose the answer to a commit (1021), and the client library may give up on one
// that is still on its way (1039, 1031, a cancelled one). Only the first of these is fenced by the library: after the
// others, the commit can still come true when somebody has looked and not found it. So:
//
//  1. Every attempt that writes has its read version in hand before it is sent.
//  2. It writes a token, its nonce and its versionstamp, in a slot of this process's session (session.go), and has a
//     read conflict on a fence: the slot's, a key that nobody writes, or, where it has recalled, a key of that.
//     Once sent, it is never cancelled, and it has no time limit.
//  3. An answer that is known to mean "not committed" is believed (errors.go has the list). Any other is unknown.
//  4. What is unknown is resolved before fn runs again or anything is returned: a transaction reads the token. If the
//     attempt's nonce is there, it was committed, and its version is known. If not, the transaction commits a write
//     conflict on the fence, and nothing else: the library's own way with 1021. That is after the attempt's read version,
//     so from then on the attempt has been committed or never will be. It has not: the token that was not there was read
//     as a conflict. This goes on until it is known.
//  5. If the session's mark is gone, others took this process for dead and cleared its tokens: nothing can be known
//     any more, and the answer is ErrCommitUnknown, never "not committed".
//  6. The next attempt has another nonce. A slot is used again when the outcome of the attempt before is known. Its
//     token is no conflict, and its fence is nearly never raised: so the read version may be one of before the slot's
//     last commit.
//  7. So a transaction that has read nothing takes a read version that this handle has seen a moment ago, from its last
//     commit, and saves the round trip for one. It serves 4 alone: such a transaction is right in any order.
//
// What happens when something dies, or does not answer:
//
//	| when                                  | the process dies           | the cluster does not answer                   |
//	|---------------------------------------|----------------------------|-----------------------------------------------|
//	| in fn, before the commit is sent      | nothing happened           | waits; ctx ends it: not committed             |
//	| the commit is sent, not arrived       | committed or not           | unknown: 4 fences it or finds it              |
//	| it is committed, the answer is lost   | committed                  | unknown: 4 finds it                           |
//	| in 4, before the fence is raised      | as the attempt             | waits for the cluster; ctx ends the wait:     |
//	|                                       |                            | ErrCommitUnknown, 4 goes on in the background |
//	| the fence's own answer is lost        | the same, or it never will | 4 looks again, and raises the fence again     |
//	| Close, while any of it is under way   |                            | ErrCommitUnknown and ErrClosed                |
//	| the process sleeps, its session dies  |                            | 5: ErrCommitUnknown                           |
//	| after the outcome is known            | the next owner of nothing: | the slot is overwritten by the next attempt,  |
//	|                                       | a sweep clears the session | no sooner                                     |

// commit sends the attempt and waits for its outcome.
func (t *tx) commit() error {
	if !t.hasRead && !t.isRecalled {
		t.writeOnly()
	}
	t.flush()
	if t.err != nil {
		return t.verdict(nil)
	}
	if t.isTooOld() {
		return errTooOld
	}
	slot, err := t.prepare()
	if err != nil {
		return err
	}
	if !t.db.commits.enter() {
		slot.release()
		return fmt.Errorf("fdb: begin a commit: %w", backend.ErrClosed)
	}
	known := make(chan error, 1)
	go func() {
		defer t.db.commits.leave()
		known <- t.settle(slot)
	}()
	return t.await(known)
}

// prepare makes the attempt safe to send (1, 2, 7).
func (t *tx) prepare() (*slot, error) {
	if err := t.needVersion(); err != nil {
		return nil, err
	}
	s, err := t.db.takeSlot(t.ctx)
	if err != nil {
		return nil, err
	}
	if t.fence == nil {
		t.fence = s.fence
		err = t.tr.AddReadConflictKey(t.fence)
	}
	if err != nil {
		err = describe("begin a commit", err)
	} else {
		t.tr.SetVersionstampedValue(s.key, s.token())
		err = t.disarm()
	}
	if err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

func (t *tx) needVersion() error {
	if t.isVersionKnown {
		return nil
	}
	if version, ok := t.db.recent.get(); ok && !t.hasRead && t.isFirst {
		t.tr.SetReadVersion(version)
		return nil
	}
	t.arm()
	if _, err := t.tr.GetReadVersion().Get(); err != nil {
		return t.judge("begin a commit", err)
	}
	return nil
}

// recent is the newest version that a handle's commits have had, and when that was.
type recent struct {
	mu      sync.Mutex
	version int64
	seen    time.Time
}

// recentMax is how long a version is recent: the cluster refuses to compare with one of five seconds ago.
const recentMax = time.Second

func (r *recent) get() (version int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version, r.version > 0 && time.Since(r.seen) < recentMax
}

// isDue reports whether a newer version is worth asking for.
func (r *recent) isDue() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.seen) > recentMax/8
}

func (r *recent) note(version int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if version > r.version || time.Since(r.seen) >= recentMax { // a cluster that was replaced may count anew
		r.version, r.seen = version, time.Now()
	}
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
		return &lost{cause: err}
	case isOurs(err):
		s.release()
		return describe("commit", err)
	}
	return t.resolve(s, err)
}

func (t *tx) succeed(stamp fdb.FutureKey) error {
	t.db.counts.commits.Add(1)
	if stamp == nil {
		if t.db.recent.isDue() {
			if version, err := t.tr.GetCommittedVersion(); err == nil {
				t.db.recent.note(version)
			}
		}
		return nil
	}
	place, err := stamp.Get()
	if err != nil {
		t.outcome.conclude(describe("read the version", err))
		return nil
	}
	var v backend.Versionstamp
	copy(v[:], place)
	t.db.recent.note(int64(v.Sequence()))
	t.outcome.stamped(v)
	return nil
}

// resolve finds out whether the attempt was committed, whose commit ended in cause (4, 5).
func (t *tx) resolve(s *slot, cause error) error {
	t.db.counts.unknown.Add(1)
	found, err := t.db.lookUp(s, t.fence)
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
		return &lost{cause: cause}
	}
	return describe("commit", cause)
}

// found is what a resolution has learnt: committed, gone, or else fenced off.
type found struct {
	isCommitted, isGone bool
	stamp               backend.Versionstamp
}

// lookUp reads the slot's token, and raises the attempt's fence if it is not there. It fails only when the database is
// closed meanwhile.
func (db *DB) lookUp(s *slot, fence fdb.Key) (f found, err error) {
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
		default:
			return tr.AddWriteConflictKey(fence)
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
