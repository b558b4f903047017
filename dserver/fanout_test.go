package dserver_test

import (
	"fmt"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Spread is sent on as so many messages, each with a key of its own.
type Spread struct{ Messages int }

// One turn may send as much as fits into a transaction, with keys as without: what it writes takes time in proportion.
func TestTurnSendsThousandsWithKeys(t *testing.T) {
	t.Parallel()
	const messages = 4000
	var spreading *dserver.Definition[Counter]
	spreading = counters.With(dserver.HandleCast(func(ctx *dserver.Context, _ *Counter, m Spread) error {
		for i := range m.Messages {
			ctx.Cast(spreading.Ref("sum"), Increment{1}, dserver.Once(fmt.Sprint("k", i)))
		}
		return nil
	}))
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		start(t, db, spreading)
		source, sum := spreading.At(db, "source"), spreading.At(db, "sum")
		must(t, source.Cast(ctx, Spread{messages}))
		eventually(t, "all that the turn sent is handled", func() bool {
			if s := statusOf(t, source); s.DeadLetters > 0 || s.Attempts > 0 {
				t.Fatalf("it broke: %+v", s)
			}
			n, err := dserver.Query(ctx, sum, Value{})
			return err == nil && n == messages
		})
	})
}
