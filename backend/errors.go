package backend

import "errors"

// What a caller branches on. Each arrives wrapped with what was being done; test with errors.Is.
// Conflicts are no error: Transact runs fn again.
var (
	// ErrTooLarge: a key, value or transaction is over a limit of this package. Trying again will not help.
	ErrTooLarge = errors.New("backend: over a limit")

	// ErrTooOld: the transaction ran longer than MaxDuration, twice. Do less in it.
	ErrTooOld = errors.New("backend: the transaction took too long")

	// ErrCommitUnknown: ctx, the database or the process's session ended while a commit was under way, and it may have
	// happened. Look, or send again with an idempotency key.
	ErrCommitUnknown = errors.New("backend: it is unknown whether the commit happened")

	// ErrClosed: the database was closed, or it ended itself after a failed write; then the cause is in the chain.
	// Open it again.
	ErrClosed = errors.New("backend: the database is closed")

	// ErrLeftBehind: Close has waited for MaxClose, and functions that were given to Transact or Read have still not
	// returned. The database is closed all the same.
	ErrLeftBehind = errors.New("backend: Close left behind what did not return")

	// ErrNoSQL: the store is no SQL database, and runs no statements (Execer).
	ErrNoSQL = errors.New("backend: the store has no tables of SQL, and runs no statements")

	// ErrCorrupt: the stored bytes are not what was written. Nothing was changed; an operator must look.
	ErrCorrupt = errors.New("backend: the stored data is damaged")
)
