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
// others, the commit can still come true when somebody has looked and not found it. So, of each group that is committed
// (group.go; most are of one attempt):
//
//  1. It has its read version in hand before it is sent.
//  2. It writes a token, its nonce and its versionstamp, in a slot of this process's session (session.go), and has a
//     read conflict on the slot's fence, a key that nobody writes. Once sent, it is never cancelled, and it has no time
//     limit.
//  3. An answer that is known to mean "not committed" is believed (errors.go has the list). Any other is unknown.
//  4. What is unknown is resolved before fn runs again or anything is returned: a transaction reads the token. If the
//     group's nonce is there, it was committed, and its version is known. If not, the transaction commits a write
//     conflict on the fence, and nothing else: the library's own way with 1021. That is after the group's read version,
//     so from then on the group has been committed or never will be. It has not: the token that was not there was read
//     as a conflict. This goes on until it is known.
//  5. If the session's mark is gone, others took this process for dead and cleared its tokens: nothing can be known
//     any more, and the answer is ErrCommitUnknown, never "not committed".
//  6. The next group has another nonce. A slot is used again when the outcome of the group before is known. Its
//     token is no conflict, and its fence is nearly never raised: so the read version may be one of before the slot's
//     last commit.
//  7. So a transaction that has read nothing takes a read version that this handle has seen a moment ago, from its last
//     commit, and saves the round trip for one. It serves 4 alone: such a transaction is right in any order.
//
// What happens when something dies, or does not answer:
//
//	| when                                  | the process dies           | the cluster does not answer                   |
//	|---------------------------------------|----------------------------|-----------------------------------------------|
//	| in fn, or before the group is sent    | nothing happened           | waits; ctx ends it: not committed             |
//	| the commit is sent, not arrived       | committed or not           | unknown: 4 fences it or finds it              |
//	| it is committed, the answer is lost   | committed                  | unknown: 4 finds it                           |
//	| in 4, before the fence is raised      | as the group               | waits for the cluster; ctx ends the wait:     |
//	|                                       |                            | ErrCommitUnknown, 4 goes on in the background |
//	| the fence's own answer is lost        | the same, or it never will | 4 looks again, and raises the fence again     |
//	| Close, while any of it is under way   |                            | ErrCommitUnknown and ErrClosed                |
//	| the process sleeps, its session dies  |                            | 5: ErrCommitUnknown                           |
//	| after the outcome is known            | the next owner of nothing: | the slot is overwritten by the next group,    |
//	|                                       | a sweep clears the session | no sooner                                     |

// commit hands the attempt over and waits for its outcome.
func (t *tx) commit() error {
	t.settleReads()
	if t.err != nil {
		return t.verdict(nil)
	}
	if t.isSlow = t.isOld(); t.isTooOld() {
		return errTooOld
	}
	if err := t.prepare(); err != nil {
		return err
	}
	if !t.db.commits.enter() {
		return fmt.Errorf("fdb: begin a commit: %w", backend.ErrClosed)
	}
	t.known = make(chan error, 1)
	if t.db.line.join(t) {
		go t.db.commitLine()
	} else {
		hurry := time.AfterFunc(t.db.options.linePatience, t.db.hurryLine)
		defer hurry.Stop()
	}
	return t.await()
}

// prepare gets what the commit needs of the cluster, as long as ctx lets it (1, 2, 7).
func (t *tx) prepare() (err error) {
	if err = t.needVersion(); err != nil {
		return err
	}
	if t.session, err = t.db.session.get(t.ctx, t.db.openSession); err != nil && t.ctx.Err() != nil && t.db.life.Err() == nil {
		err = t.db.unreached(t.ctx, "begin a commit")
	}
	if err == nil && t.ctx.Err() != nil {
		err = fmt.Errorf("fdb: begin a commit: %w", t.ctx.Err())
	}
	return err
}

func (t *tx) needVersion() (err error) {
	if t.isRecalled {
		return nil
	}
	if version, ok := t.db.recent.get(); ok && t.isBlind() && t.isFirst {
		t.version = version
		return nil
	}
	if err = t.open(); err != nil {
		return err
	}
	if t.version, err = t.tr.GetReadVersion().Get(); err != nil {
		return t.judge("begin a commit", err)
	}
	if !t.isBlind() {
		t.since = t.version
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

// found is what a resolution has learnt: committed, gone, or else fenced off.
type found struct {
	isCommitted, isGone bool
	stamp               backend.Versionstamp
}

func (f found) isFenced() bool { return !f.isCommitted && !f.isGone }

// lookUp reads the slot's token, and raises its fence if it is not there. It fails only when the database is closed
// meanwhile.
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
		default:
			return tr.AddWriteConflictKey(s.fence)
		}
		return nil
	})
	return f, err
}

// await waits for the outcome, and not much longer than the caller does.
func (t *tx) await() error {
	select {
	case err := <-t.known:
		return err
	case <-t.ctx.Done():
	case <-t.db.life.Done():
	}
	if t.db.line.leave(t) { // it was not sent
		t.db.commits.leave()
		return t.interrupted()
	}
	grace := time.NewTimer(t.db.options.grace)
	defer grace.Stop()
	select {
	case err := <-t.known:
		return err
	case <-grace.C:
	}
	if t.db.life.Err() != nil {
		return fmt.Errorf("fdb: commit: %w: %w", backend.ErrCommitUnknown, backend.ErrClosed)
	}
	return fmt.Errorf("fdb: commit: %w: %w", backend.ErrCommitUnknown, t.ctx.Err())
}
