//go:build fdb

package fdb

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/dserver-go/dserver/backend"
)

// Codes of FoundationDB's errors that are spoken of.
const (
	codeTooOld            = 1007
	codeFutureVersion     = 1009
	codeNotCommitted      = 1020
	codeCommitUnknown     = 1021
	codeCancelled         = 1025
	codeTimedOut          = 1031
	codeAccessUnreadable  = 1036
	codeProcessBehind     = 1037
	codeLocked            = 1038
	codeClusterChanged    = 1039
	codeCommitProxyMemory = 1042
	codeBatchThrottled    = 1051
	codeGRVProxyMemory    = 1078
	codeOperationAborted  = 1101
	codeTagThrottled      = 1213
	codeProxyTagThrottled = 1223
	codeTooLarge          = 2101
	codeKeyTooLarge       = 2102
	codeValueTooLarge     = 2103
)

// refusals are the errors after which a transaction is known not to be committed and may be tried again: the client
// library's predicate RETRYABLE_NOT_COMMITTED. One that a newer library adds counts as unknown until it is named here,
// which costs a look at the token and no more.
var refusals = []int{
	codeTooOld, codeFutureVersion, codeNotCommitted, codeProcessBehind, codeLocked, codeCommitProxyMemory,
	codeBatchThrottled, codeGRVProxyMemory, codeTagThrottled, codeProxyTagThrottled,
}

// outages are the errors of a commit or a read that the network or the cluster's recovery explains. Of a commit they
// say nothing about its outcome.
var outages = []int{codeCommitUnknown, codeClusterChanged, codeTimedOut, codeCancelled, codeOperationAborted}

func codeOf(err error) int {
	var e fdb.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// isRefusal reports whether a commit that failed so has not happened and will not happen.
func isRefusal(err error) bool { return slices.Contains(refusals, codeOf(err)) }

// isOutage reports whether trying again later is sensible although the outcome is not known.
func isOutage(err error) bool { return slices.Contains(outages, codeOf(err)) }

// isOurs reports whether the client refused before it sent anything: the program's fault, and not committed.
func isOurs(err error) bool {
	code := codeOf(err)
	return code >= 2000 && code < 3000 || code == codeAccessUnreadable
}

// lost ends an attempt that may be run again: it was not committed.
type lost struct {
	cause      error
	isRecalled bool // it relied on what its caller remembered, so the next one is its first try in earnest
}

func (e *lost) Error() string { return fmt.Sprintf("fdb: not committed: %v", e.cause) }
func (e *lost) Unwrap() error { return e.cause }

// isRace reports whether the attempt lost to another transaction, and not to a cluster in trouble.
func (e *lost) isRace() bool { return codeOf(e.cause) == codeNotCommitted }

// What Version answers when there is no commit to name.
var (
	errNoVersion    = errors.New("fdb: the transaction wrote nothing, so it has no version")
	errNotCommitted = errors.New("fdb: the version is known after the commit, and the transaction is not committed")
)

// errRecalledWrong ends an attempt whose recollection came to nothing that a commit could prove.
var errRecalledWrong = &lost{errors.New("fdb: the transaction recalled, and does not only write"), true}

// errTooOld ends an attempt that took too long.
var errTooOld = fmt.Errorf("fdb: %w: more than %v from its first read", backend.ErrTooOld, backend.MaxDuration)

// errEnded is what reads get that are waited for after the transaction.
var errEnded = errors.New("fdb: the transaction has ended")

// errSessionGone: this process stood still for so long that others took it for dead and cleared its tokens, so it
// cannot be told any more whether the commit that it had sent has happened.
var errSessionGone = fmt.Errorf("fdb: %w: this process stood still so long that its session was cleared",
	backend.ErrCommitUnknown)

// describe wraps an error of the client with what was being done.
func describe(doing string, err error) error {
	switch codeOf(err) {
	case codeTooLarge, codeKeyTooLarge, codeValueTooLarge:
		return fmt.Errorf("fdb: %s: %w: %w", doing, backend.ErrTooLarge, err)
	case codeAccessUnreadable:
		return fmt.Errorf("fdb: %s: what is read has a key or a value that is known after the commit; "+
			"read before Append and Stamp: %w", doing, err)
	}
	return fmt.Errorf("fdb: %s: %w", doing, err)
}

// unreached is why a wait for the cluster was given up.
func (db *DB) unreached(ctx context.Context, doing string) error {
	if db.life.Err() != nil {
		return fmt.Errorf("fdb: %s: %w", doing, backend.ErrClosed)
	}
	return fmt.Errorf("fdb: %s in the cluster of %s: %w", doing, db.cluster.name, ctx.Err())
}
