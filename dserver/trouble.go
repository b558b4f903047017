package dserver

import (
	"context"
	"iter"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/operate"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Trouble is a server that needs a person: it has dead letters; it has halted, or is paused; its next message, or its locked work, failed and
// is tried again; no consumer handles its next message, can read its state or lists its label; or more than 10,000 messages
// wait. Its Status says which.
type Trouble struct {
	Ref    Ref
	Status Status
}

// Active yields the servers that Troubles looks at, each once: those in trouble, those that have something to do, and those that
// are locked; not those that are at rest. All else is as of Troubles.
func Active(ctx context.Context, db backend.Database, types ...string) iter.Seq2[Trouble, error] {
	return looked(ctx, db, "Active", types, operate.Active)
}

// Troubles yields the servers in trouble, of these types, or of all when none is named, each once. It looks at those that have dead letters or have halted, which
// are in an index, and at those that have something to do, but not at all the others: to find one among a million takes as long
// as among a thousand. It reads page by page, so the loop may take its time; what comes or goes meanwhile may be missed. An error
// ends it. It writes, too: it tidies up that index, so it needs a database that can be written.
func Troubles(ctx context.Context, db backend.Database, types ...string) iter.Seq2[Trouble, error] {
	return looked(ctx, db, "Troubles", types, operate.Troubles)
}

func looked(
	ctx context.Context, db backend.Database, verb string, types []string,
	list func(context.Context, backend.Database, ...string) iter.Seq2[operate.Trouble, error],
) iter.Seq2[Trouble, error] {
	return func(yield func(Trouble, error) bool) {
		err := refuseTurn(ctx, verb)
		for _, typ := range types {
			if err == nil {
				err = tenant.CheckTypeName(typ)
			}
		}
		if err != nil {
			yield(Trouble{}, err)
			return
		}
		for t, err := range list(ctx, plain(db), types...) {
			if err != nil {
				yield(Trouble{}, public(err))
				return
			}
			if !yield(Trouble{Ref(t.Ref), publicStatus(t.Status)}, nil) {
				return
			}
		}
	}
}
