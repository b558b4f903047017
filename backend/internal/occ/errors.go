package occ

import (
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
)

// ErrLost ends an attempt that lost a race: the store runs fn again. No caller sees it.
var ErrLost = errors.New("occ: a conflict")

// Errors are those that a store answers, each with the store's name before it.
type Errors struct {
	TooOld       error // an attempt that took too long
	Ended        error // a read after fn has returned
	NoVersion    error // Version of what wrote nothing
	NotCommitted error // Version before the commit
	Unreadable   error // a read of what Append or Stamp will write
}

// NewErrors are those of the store of this name.
func NewErrors(store string) *Errors {
	return &Errors{
		TooOld:       fmt.Errorf("%s: %w: more than %v from its first read", store, backend.ErrTooOld, backend.MaxDuration),
		Ended:        errors.New(store + ": the transaction is used after its function returned"),
		NoVersion:    errors.New(store + ": the transaction wrote nothing, so it has no version"),
		NotCommitted: errors.New(store + ": the version is known after the commit, and the transaction is not committed"),
		Unreadable: errors.New(store + ": what is read has a key or a value that is known after the commit; " +
			"read before Append and Stamp"),
	}
}
