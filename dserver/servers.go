package dserver

import (
	"context"
	"iter"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/operate"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Types yields the names of the types that have servers in a database, in their order. An error ends it.
func Types(ctx context.Context, db backend.Database) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := refuseTurn(ctx, "Types"); err != nil {
			yield("", err)
			return
		}
		operate.Types(ctx, plain(db))(yield)
	}
}

// Servers yields the servers of a type, in the order of their ids: all of which anything is stored, be it a message
// that waits or a dead letter. An error ends it. It reads page by page, so the loop may take its time; servers that come
// or go meanwhile may be missed.
func Servers(ctx context.Context, db backend.Database, typ string) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		err := refuseTurn(ctx, "Servers")
		if err == nil {
			err = tenant.CheckTypeName(typ)
		}
		if err != nil {
			yield(Ref{}, err)
			return
		}
		for id, err := range operate.Servers(ctx, plain(db), typ) {
			ref := Ref{typ, id}
			if err != nil {
				ref = Ref{}
			}
			if !yield(ref, err) {
				return
			}
		}
	}
}
