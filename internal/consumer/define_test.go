package consumer

import (
	"context"
	"errors"
	"reflect"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/operate"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
	"github.com/dserver-go/dserver/statediff"
)

// marked is the state of the servers of these tests, which are sent toil. They are made as package dserver makes those of Go
// types, which these tests cannot import.
type marked struct{ Done int }

var toil = tenant.Message{Name: "toil", Body: []byte{0xa0}} // an empty map

// define is a type of such servers. Unless a part says otherwise they take toil, and do nothing.
func define(parts ...func(d *turn.Definition)) *turn.Definition {
	schema, err := statediff.For(reflect.TypeFor[marked]())
	if err != nil {
		panic(err)
	}
	def := &turn.Definition{
		Name: "marked", Place: "a test", Form: form{schema}, Version: 1,
		Handlers: map[string]*turn.Handler{},
		Infos:    map[string]*turn.Handler{},
		Locked:   map[string]*turn.Locked{},
		Settings: turn.DefaultSettings(),
	}
	for _, part := range append(parts, handling(func(*marked) error { return nil })) {
		part(def)
	}
	return def
}

// form is the form of a Go type.
type form struct{ *statediff.Schema }

func (f form) New() any { return f.Schema.New().Interface() }

func (f form) Rewrite(rows *statediff.Rows, older turn.Form, value any) ([]statediff.Edit, error) {
	return f.Schema.Rewrite(rows, older.(form).Schema, value)
}

// handling is a handler of toil, unless there is one.
func handling(fn func(s *marked) error) func(d *turn.Definition) {
	return func(d *turn.Definition) {
		if d.Handles(toil.Name) {
			return
		}
		d.Handlers[toil.Name] = &turn.Handler{Name: toil.Name, Run: func(_ *turn.Scope, state any, _ []byte) ([]byte, error) {
			return nil, fn(state.(*marked))
		}}
	}
}

// locking is locked work for toil. What it returns is added to the state.
func locking(work func(a *turn.WorkAttempt) (int, error)) func(d *turn.Definition) {
	return func(d *turn.Definition) {
		d.Locked[toil.Name] = &turn.Locked{
			Work: func(a *turn.WorkAttempt, _ any, _ []byte) (any, error) { return work(a) },
			Apply: func(_ *turn.Scope, state any, _ []byte, found any) ([]byte, error) {
				state.(*marked).Done += found.(int)
				return nil, nil
			},
		}
	}
}

// trying is how many attempts a message has.
func trying(attempts int) func(d *turn.Definition) {
	return func(d *turn.Definition) { d.Settings.MaxAttempts = attempts }
}

// halting makes a server stop at a message that has no attempts left.
func halting(d *turn.Definition) { d.Settings.Halt = true }

// refOf is the server of the tests.
func refOf(def *turn.Definition) tenant.Ref { return tenant.Ref{Type: def.Name, ID: "a"} }

func handleOf(db backend.Database, def *turn.Definition) Handle {
	return Handle{DB: db, Def: def, Ref: refOf(def)}
}

func operatorOf(db backend.Database, def *turn.Definition) operate.Server {
	return operate.Server{DB: db, Ref: refOf(def)}
}

// checkOf is what is wrong with what is stored.
func checkOf(ctx context.Context, db backend.Database, def *turn.Definition) error {
	findings, err := operate.Check(ctx, db, []*turn.Definition{def})
	return errors.Join(append(findings, err)...)
}

// meddled is a database in whose first transaction something happens before the commit.
type meddled struct {
	backend.Database
	meddle func()
}

func (m *meddled) Transact(ctx context.Context, fn func(tx backend.Tx) error) error {
	return m.Database.Transact(ctx, func(tx backend.Tx) error {
		err := fn(tx)
		m.meddle()
		return err
	})
}
