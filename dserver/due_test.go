package dserver_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// What is due never comes before its time, and at most a millisecond after it, at whatever nanosecond it was set.
func TestWhatIsDueIsNeverEarly(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		offset := time.Duration(rapid.Int64Range(0, int64(2*time.Millisecond)).Draw(r, "set at"))
		in := time.Duration(rapid.Int64Range(0, int64(5*time.Millisecond)).Draw(r, "due in"))
		synctest.Test(t, func(t *testing.T) {
			<-time.After(offset)
			expectPunctual(t, in)
		})
	})
}

// expectPunctual sets a timer, sends with After, and looks when both come.
func expectPunctual(t *testing.T, in time.Duration) {
	var set time.Time
	came := map[string]time.Duration{}
	types := journal.With(
		dserver.HandleCast(func(ctx *dserver.Context, _ *Journal, m Mark) error {
			set = time.Now()
			ctx.SetTimer("timer", in, Write{"timer"})
			return nil
		}),
		dserver.HandleCast(func(_ *dserver.Context, _ *Journal, m Write) error {
			came[m.Line] = time.Since(set)
			return nil
		}))
	db, ctx := backendtest.NewModel(), context.Background()
	defer db.Close()
	defer run(t, dserver.Consumer{}, db, types)()
	synctest.Wait()
	s := types.At(db, "a")
	must(t, s.Cast(ctx, Mark{}))
	must(t, s.Cast(ctx, Write{"after"}, dserver.After(in)))
	<-time.After(time.Second)
	want := map[string]time.Duration{"timer": in, "after": in}
	if in == 0 {
		delete(want, "after") // it is sent at once
	}
	for what, due := range want {
		if at, ok := came[what]; !ok || at < due || at >= due+time.Millisecond {
			t.Fatalf("%s, due after %v, came after %v", what, due, at)
		}
	}
}
