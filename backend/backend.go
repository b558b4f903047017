// Package backend is what DServer asks of a store: strictly serializable transactions over ordered keys, versionstamps
// and watches. It is shaped on FoundationDB and small enough to build on anything that has one commit order.
//
//	Database ── Transact ──> Tx      reads are futures, writes return nothing, one commit, once or not at all
//	         └─ Read ──────> ReadTx  a snapshot, and watches on what was read
//
// What every backend guarantees, and what [github.com/dserver-go/dserver/backend/backendtest] checks:
//
//   - Strict serializability: a transaction sees all that was committed, by anyone, before it began, and commits only
//     if nobody changed what it read. A transaction without writes is not validated: it saw one snapshot.
//   - Exactly once: when Transact returns nil, fn's last run was committed, once, and will survive a power cut
//     ([AsyncCommitter] has the exception). When it returns an error, nothing was committed, but for [ErrCommitUnknown].
//   - Patience: a store that serves only so many transactions at once makes the others wait, first come, first served,
//     as long as their contexts last. None is refused for being one too many, and the wait is no part of its age.
//   - One order: versionstamps are handed out in commit order, across processes.
//   - One set of limits (limits.go), those of FoundationDB, whatever the store could do: what passes on a laptop
//     passes in production.
//
// The package holds the contract, keys, versionstamps, limits and errors. It knows no store and imports the standard
// library and the tuple encoding alone.
package backend

import "context"

// Database is a store that is open. It is safe for concurrent use and comparable.
type Database interface {
	// Transact runs fn in a strictly serializable transaction and commits it, once or not at all. A lost race runs fn
	// again, so fn touches nothing outside tx until its last line, and nothing that another run of it left there.
	// fn's error rolls back and is returned as it is. A panic in fn rolls back and passes on.
	//
	// When ctx ends before the commit was handed to the store, nothing was committed and the error wraps ctx's.
	// When it ends later, the outcome is awaited where it is known soon; else the error wraps ErrCommitUnknown and
	// ctx's. A failed commit is reported with ErrTooLarge, ErrTooOld, ErrClosed or ErrCorrupt in its chain.
	Transact(ctx context.Context, fn func(tx Tx) error) error

	// Read runs fn on a snapshot that holds all that was committed before Read was called. fn may run more than once.
	// The watches that fn made are set when Read returns nil, and cancelled when it does not.
	Read(ctx context.Context, fn func(tx ReadTx) error) error

	// Close ends the database: running transactions end with ErrClosed, later ones as well, and all watches fire.
	// It waits until nothing of the database runs any more, so it is not called from within fn. Functions that have
	// not returned after MaxClose are left behind, which its error says (ErrLeftBehind): the database is closed all the
	// same, and nothing of what they do will be committed. A second Close does nothing.
	Close() error
}

// Reader is what transactions of both kinds can read. Reads may be started together and are waited for by
// Future.Get: on a store across a network that is one round trip. The slices that they return belong to the caller
// and must not be changed. An error of a read also fails the transaction.
type Reader interface {
	// Get returns the value of key, nil when it is absent. In a Tx that is a conflict when it changes before the commit.
	Get(key Key) Future[[]byte]

	// GetRange returns the pairs of r in key order. A Tx reads its own writes. What was read, up to the last key
	// returned where a limit cut it, is a conflict when it changes, unless o.Snapshot. A range whose end is not after
	// its begin is empty, here and in Clear.
	GetRange(r Range, o RangeOptions) Future[[]KeyValue]
}

// ReadTx is a snapshot. It is valid within fn and for one goroutine.
type ReadTx interface {
	Reader

	// Watch returns a watch that fires after key changed from what this snapshot has. It is a hint: it may fire for
	// nothing, and after a failure of the store; it never misses. It lives until it fires or is cancelled, whatever
	// becomes of Read's context.
	Watch(key Key) Watch
}

// Tx is a transaction. It is valid within fn and for one goroutine. Writes are buffered; the first that is impossible
// (ErrTooLarge) fails the commit. Keys that Append will make, and the values that Stamp will write, are unknown until
// the commit: reading a range or key that has them fails the transaction, so reads go before such writes.
type Tx interface {
	Reader

	// Set writes value at key. The value may be empty, and is not nil when it is read back. It is copied.
	Set(key Key, value []byte)

	// Clear removes what is in r.
	Clear(r Range)

	// Add adds delta to the counter at key (see Counter), which begins at 0. It reads nothing: adding never conflicts.
	Add(key Key, delta int64)

	// Append writes value at prefix + versionstamp, after all that was ever appended there, and returns nothing since
	// the key is known after the commit: a queue's push. Appends never conflict with each other. All Appends of a
	// transaction, whatever their prefixes, are numbered in the order of their calls: the first has the stamp that Version
	// returns, and the others follow it (Versionstamp.Plus).
	Append(prefix Key, value []byte)

	// Stamp writes the transaction's versionstamp, the one that Version returns, as value of key.
	Stamp(key Key)

	// Conflict makes a later change of key a conflict, as if it had been read. Later is after the snapshot, so a
	// transaction that uses it reads something before.
	Conflict(key Key)

	// Version returns the transaction's versionstamp, which no other transaction has. Others may have stamps that differ from
	// it in their order alone; none of those appends to a range that this one has as a conflict. It may be waited for after Transact
	// returned nil; it is an error when the transaction wrote nothing or was not committed.
	Version() Future[Versionstamp]
}

// Recaller is a Tx of a store across a network, where what its caller remembers saves the round trips of a read.
type Recaller interface {
	Tx

	// Recall is for a caller that committed a transaction, of which v is the version, and remembers what was in the ranges
	// known, all of which that transaction had as conflicts. It makes this transaction one that began just before that
	// commit and has read these ranges: any change of them since then, by the transaction of v as well, is a conflict. It
	// is the first call of a transaction.
	//
	// Since is a commit before v, or v itself, where each commit after since up to v was of a transaction of the caller's
	// that had recalled the one before it, with known: so known has not changed in between, and the store may compare
	// from any moment of that time. That lets it commit transactions together that recall different commits.
	//
	// It reports false, and does nothing, where the transaction has to read: on a later run of fn, or when the store does
	// not remember v. A run that recalled must end in a commit: when it returns an error, reads or writes nothing, fn
	// runs again, as after a lost race. So nothing comes of what was remembered wrongly.
	Recall(v, since Versionstamp, known ...Range) bool
}

// AsyncCommitter is a Tx of a store that shares a machine with all who use it.
type AsyncCommitter interface {
	Tx

	// CommitAsync says that nobody outside of the store's machine is told of this transaction, or of what others made of it,
	// before one without CommitAsync is committed after it: so of the message of a call, whose answer is such a commit.
	// Transact may return then, and others may see the transaction, before it would survive a power cut. A power cut takes such
	// commits from the end alone: what one without CommitAsync came after stays with it, of whatever process they are. The death
	// of a process takes nothing.
	//
	// A store whose users outlive its machine ignores it. The name is PostgreSQL's, which asks for no such condition.
	CommitAsync()
}

// CommitAsync is tx's, where it is an AsyncCommitter.
func CommitAsync(tx Tx) {
	if a, ok := tx.(AsyncCommitter); ok {
		a.CommitAsync()
	}
}

// Wrapped is for a store that wraps another one and gives outer, a Tx around the other's inner, to fn. It returns outer with
// what else inner can do: it is a Recaller or an Execer if inner is one, and its Recall, Exec and CommitAsync are those of inner.
func Wrapped(outer, inner Tx) Tx {
	w := wrapped{outer, inner}
	r, recalls := inner.(Recaller)
	e, executes := inner.(Execer)
	switch {
	case recalls && executes:
		return struct {
			wrapped
			recaller
			executor
		}{w, recaller{r}, executor{e}}
	case recalls:
		return struct {
			wrapped
			recaller
		}{w, recaller{r}}
	case executes:
		return struct {
			wrapped
			executor
		}{w, executor{e}}
	}
	return w
}

type wrapped struct {
	Tx
	inner Tx
}

func (w wrapped) CommitAsync() { CommitAsync(w.inner) }

type recaller struct{ inner Recaller }

func (r recaller) Recall(v, since Versionstamp, known ...Range) bool {
	return r.inner.Recall(v, since, known...)
}

type executor struct{ inner Execer }

func (e executor) Exec(s Statement) { e.inner.Exec(s) }

// Reporter is a Database that has things to tell which no call returns, such as that it uses more and more of the disk.
type Reporter interface {
	Database

	// Report makes the database call to with each such thing, from one goroutine at a time, until stop is called.
	Report(to func(what error)) (stop func())
}

// KeyValue is a pair of a range.
type KeyValue struct {
	Key   Key
	Value []byte
}

// RangeOptions tells how a range is read. The zero value reads all of it, in order, as a conflict.
type RangeOptions struct {
	Limit    int  // at most so many pairs; 0 is no limit
	Bytes    int  // stop after the pair with which keys and values reach so many bytes; 0 is no limit
	Reverse  bool // from the last key downwards
	Snapshot bool // no conflict when it changes
}
