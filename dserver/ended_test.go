package dserver_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// Lamp is a server that ends.
type Lamp struct{ On bool }

type (
	Light struct{ For time.Duration }
	Dim   struct{}
	Out   struct{}
	Snuff struct{}
)

var errDark = &dserver.Error{Code: "dark", Text: "it does not burn"}

var lamps = dserver.Define("lamp",
	dserver.HandleCast(func(ctx *dserver.Context, l *Lamp, m Light) error {
		l.On = true
		ctx.SetTimer("out", m.For, Out{})
		return nil
	}),
	dserver.HandleCast(func(_ *dserver.Context, l *Lamp, _ Dim) error {
		if !l.On {
			return errDark
		}
		return nil
	}),
	dserver.HandleCast(func(ctx *dserver.Context, _ *Lamp, _ Out) error {
		ctx.Reset()
		return nil
	}),
	dserver.HandleInfo(func(ctx *dserver.Context, _ *Lamp, _ Snuff) error {
		ctx.Reset()
		return nil
	}),
)

// However a server ends, nothing that is stored names it afterwards; nor does it when it never began.
func TestServerWithoutStateLeavesNothing(t *testing.T) {
	t.Parallel()
	light := func(ctx context.Context, _, away *dserver.DServer[Lamp]) error {
		return away.Cast(ctx, Light{10 * time.Minute})
	}
	for name, steps := range map[string][]func(ctx context.Context, here, away *dserver.DServer[Lamp]) error{
		"by its timer": {
			func(ctx context.Context, here, _ *dserver.DServer[Lamp]) error {
				return here.Cast(ctx, Light{time.Second})
			},
		},
		"by a message of another process": {light, func(ctx context.Context, _, away *dserver.DServer[Lamp]) error {
			return away.Call(ctx, Out{}, nil)
		}},
		"by a message that is not queued": {light, func(ctx context.Context, here, _ *dserver.DServer[Lamp]) error {
			return here.Call(ctx, Out{}, nil)
		}},
		"by info": {light, func(ctx context.Context, _, away *dserver.DServer[Lamp]) error {
			return away.Info(ctx, Snuff{})
		}},
		"by Reset": {light, func(ctx context.Context, _, away *dserver.DServer[Lamp]) error { return away.Reset(ctx) }},
		"by Reset, when it has an owner": {
			func(ctx context.Context, here, _ *dserver.DServer[Lamp]) error {
				return here.Call(ctx, Light{10 * time.Minute}, nil)
			},
			func(ctx context.Context, _, away *dserver.DServer[Lamp]) error { return away.Reset(ctx) },
		},
		"by Kill": {light, func(ctx context.Context, _, away *dserver.DServer[Lamp]) error { return away.Kill(ctx) }},
		"never began": {func(ctx context.Context, _, away *dserver.DServer[Lamp]) error {
			if err := away.Call(ctx, Dim{}, nil); !errors.Is(err, errDark) {
				t.Errorf("it was not refused: %v", err)
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newStore(t, lamps)
				db := store.Open()
				run(t, dserver.Consumer{}, db, lamps)
				synctest.Wait()
				here, away := lamps.At(db, "the-lamp"), lamps.At(store.Open(), "the-lamp")
				for _, step := range steps {
					must(t, step(context.Background(), here, away))
					<-time.After(2 * time.Second) // the timer has fired, the queue is confirmed to be empty
				}
				expectNothingOf(t, db, `("s", "lamp", "the-lamp"`)
				<-time.After(20 * time.Minute) // now what was due is gone as well
				expectNothingOf(t, db, "the-lamp")
			})
		})
	}
}

// expectNothingOf fails when a row names what.
func expectNothingOf(t *testing.T, db backend.Database, what string) {
	t.Helper()
	dump, err := backendtest.Dump(context.Background(), db)
	must(t, err)
	for line := range strings.Lines(dump) {
		if strings.Contains(line, what) {
			t.Errorf("there is %s", line)
		}
	}
}
