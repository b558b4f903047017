package dserver

import (
	"context"
	"io"
	"iter"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/operate"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Export writes servers to w, with all that is in flight: their states, queues, locks, timers, delayed messages, idempotency
// keys, dead letters, attempts and pins, so that Import makes the same of them in another database, of whatever store. It
// returns how many it wrote. docs/export.md describes the format, a sequence of CBOR items.
//
// Each server is as it was in one snapshot, and in memory while it is written; servers that change while others are written
// are not as of one moment. So to move a system, end its consumers and senders first, or Pause the servers. A server that goes
// while they are listed is left out. An export changes nothing, and may be interrupted and begun again. One of a server that
// is damaged or was killed a moment ago is an error.
//
// Callers that wait for answers stay where they are: what was called is handled where it is imported, and nobody is told. What
// operators did (Audit) is not exported.
func Export(ctx context.Context, db backend.Database, w io.Writer, servers iter.Seq2[Ref, error]) (n int, err error) {
	if err := refuseTurn(ctx, "Export"); err != nil {
		return 0, err
	}
	n, err = operate.Export(ctx, plain(db), w, func(yield func(tenant.Ref, error) bool) {
		for ref, err := range servers {
			if !yield(tenant.Ref(ref), err) {
				return
			}
		}
	})
	return n, public(err)
}

// All yields the servers of all types, in their order. An error ends it.
func All(ctx context.Context, db backend.Database) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		for typ, err := range Types(ctx, db) {
			if err != nil {
				yield(Ref{}, err)
				return
			}
			for ref, err := range Servers(ctx, db, typ) {
				if !yield(ref, err) || err != nil {
					return
				}
			}
		}
	}
}

// Import makes the servers of an export in a database, and returns how many. Consumers that run go on with each as soon as it is
// whole, and with none before: what was queued is handled in its order, once; locked work runs again, with the same idempotency
// key and counted as the attempts that it had, as after the death of its holder; timers are due when they were, or at once.
//
// It refuses a server of which there is something already (ErrChanged): two servers cannot become one. What is sent to a
// server while it is imported comes after what is imported. When an import was interrupted, servers that were not whole are
// paused, Check names them, and Import of the same file begins with them anew; those that are whole have to be removed first
// (Kill), or the import be made into a new database.
//
// Give it no file that you do not trust: states are written as they are in it.
func Import(ctx context.Context, db backend.Database, r io.Reader) (n int, err error) {
	if err := refuseTurn(ctx, "Import"); err != nil {
		return 0, err
	}
	n, err = operate.Import(ctx, plain(db), r)
	return n, public(err)
}
