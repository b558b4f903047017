package operate

import (
	"context"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Server is a server to operate on. What is done to it is a transaction that conflicts with the turns that it touches:
// of an operator and a consumer that take one message only one commits, and the other looks again.
type Server struct {
	DB  backend.Database
	Ref tenant.Ref
}

// read runs fn on a snapshot.
func (s Server) read(ctx context.Context, verb string, fn func(tx backend.ReadTx, keys tenant.Keys) error) error {
	keys := tenant.KeysOf(s.Ref)
	return tenant.Doing(verb, s.Ref, s.DB.Read(ctx, func(tx backend.ReadTx) error { return fn(tx, keys) }))
}

// change runs fn in a transaction, after which the consumers of this process look at the server.
func (s Server) change(ctx context.Context, verb string, fn func(tx backend.Tx, keys tenant.Keys) error) error {
	err := s.DB.Transact(ctx, func(tx backend.Tx) error { return fn(tx, tenant.KeysOf(s.Ref)) })
	if err == nil {
		mailbox.Of(s.DB).Wake(s.Ref)
	}
	return tenant.Doing(verb, s.Ref, err)
}
