package operate

import (
	"context"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Server is a server to operate on. What is done to it is a transaction that conflicts with the turns that it touches:
// of an operator and a consumer that take one message only one commits, and the other looks again.
type Server struct {
	DB    backend.Database
	Ref   tenant.Ref
	Actor string // who operates; what is done is kept (tenant/act.go) when it is not ""
}

// read runs fn on a snapshot.
func (s Server) read(ctx context.Context, verb string, fn func(tx backend.ReadTx, keys tenant.Keys) error) error {
	keys := tenant.KeysOf(s.Ref)
	return tenant.Doing(verb, s.Ref, s.DB.Read(ctx, func(tx backend.ReadTx) error { return fn(tx, keys) }))
}

// change runs fn in a transaction, after which the consumers of this process look at the server. What fn says of the act is
// kept in the same commit.
func (s Server) change(ctx context.Context, verb string, fn func(tx backend.Tx, keys tenant.Keys, act *tenant.Act) error) error {
	err := s.DB.Transact(ctx, func(tx backend.Tx) error {
		act := tenant.Act{At: time.Now().UnixMilli(), By: s.Actor, Verb: verb, Ref: s.Ref}
		if err := fn(tx, tenant.KeysOf(s.Ref), &act); err != nil || s.Actor == "" {
			return err
		}
		return tenant.WriteAct(tx, act)
	})
	if err == nil {
		mailbox.Of(s.DB).Wake(s.Ref)
	}
	return tenant.Doing(verb, s.Ref, err)
}
