package dserver

import (
	"context"
	"errors"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/operate"
)

// Check reads all that is stored in db and compares it with itself. It returns nil when every invariant holds:
//
//  1. A server with messages has a ready mark, or no consumer would come.
//  2. The length of each queue, and the number of dead letters, are those that the counters say; each item is whole.
//     Attempts are those of a message that waits.
//  3. A server that has a state has a version and a record of its creation. If its type is one of types, its state can be
//     decoded: else the finding is ErrState when the state is sound and these types cannot read it, as others may.
//  4. Nothing is in the mailbox of a process that has no record, since nobody will read it. A claim is of a server with
//     a ready mark, and of a process with a record.
//  5. Every key is one that the library writes, and every record can be read.
//
// Else its error joins what it found, at most a hundred findings, each with its place and backend.ErrCorrupt. Any other
// error is the store's or ctx's, and then the check is not complete.
//
// Check changes nothing, and may run while consumers do: what is compared was read in one snapshot. Where a queue, or the
// dead letters of a server, are too many for one snapshot, their number is not compared. It reads page by page, so that
// its memory has a bound, except for what one state takes.
func Check(ctx context.Context, db backend.Database, types ...Type) error {
	findings, err := operate.Check(ctx, plain(db), definitions(types))
	if err != nil {
		return err
	}
	for i, f := range findings {
		findings[i] = public(f)
	}
	return errors.Join(findings...)
}
