package dserver

import (
	"context"
	"fmt"
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
		refsOf(typ, operate.Servers(ctx, plain(db), typ))(yield)
	}
}

// ServersFrom is Servers, of those alone whose ids begin with prefix and come after an id in their order; "" is none. So a list
// of a million is shown page by page: the last id of a page is where the next one goes on, whether or not that server is still
// there. It reads no more than its pages.
func ServersFrom(ctx context.Context, db backend.Database, typ, prefix, after string) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		err := refuseTurn(ctx, "ServersFrom")
		if err == nil {
			err = tenant.CheckTypeName(typ)
		}
		if err == nil && max(len(prefix), len(after)) > tenant.MaxNameBytes {
			err = fmt.Errorf("dserver: %w: no id has more than %d bytes", backend.ErrTooLarge, tenant.MaxNameBytes)
		}
		if err != nil {
			yield(Ref{}, err)
			return
		}
		refsOf(typ, operate.ServersFrom(ctx, plain(db), typ, prefix, after))(yield)
	}
}

func refsOf(typ string, ids iter.Seq2[string, error]) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		for id, err := range ids {
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
