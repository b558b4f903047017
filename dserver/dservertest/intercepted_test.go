package dservertest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
)

// The interceptors of a program are around what the test sends and what the handlers do and send, and may refuse it; time passes as
// of Start.
func TestStartInterceptedRunsTheInterceptorsOfAProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var seen []string
		note := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, fmt.Sprintf(format, args...))
		}
		tooLong := &dserver.Error{Code: "too-long", Text: "the line is too long"}
		db := dservertest.StartIntercepted(t, []dserver.Interceptor{{
			Send: func(ctx context.Context, s *dserver.Send, next func(context.Context) error) error {
				note("send %s to %v from %v", s.Message, s.To, s.From)
				s.SetHeader("who", "ada")
				return next(ctx)
			},
			Handle: func(ctx context.Context, h *dserver.Handling, next func(context.Context) error) error {
				if note("handle %s for %s", h.Message, h.Header("who")); h.Message == "Read" {
					return tooLong
				}
				return next(ctx)
			},
			Turned: func(turn *dserver.Turn) { note("turned %v", turn.Server) },
		}}, memos)
		a := memos.At(db, "a")
		if err := a.Cast(t.Context(), Line{"x"}); err != nil {
			t.Fatal(err)
		}
		if err := a.Cast(t.Context(), Wake{In: time.Hour}); err != nil {
			t.Fatal(err)
		}
		if err := a.Cast(t.Context(), Copy{To: memos.Ref("b")}); err != nil {
			t.Fatal(err)
		}
		dservertest.Settle(t, db)
		if _, err := dserver.Call(t.Context(), a, Read{}); !errors.Is(err, tooLong) {
			t.Errorf("the call returned %v", err)
		}
		<-time.After(time.Hour + time.Second) // a timer is due in whole milliseconds, and a consumer looks a moment later
		dservertest.Settle(t, db)
		mu.Lock()
		defer mu.Unlock()
		for _, want := range []string{
			"send Line to memo/a from /", "handle Line for ada", "turned memo/a", "send Line to memo/b from memo/a", "turned memo/b", "handle Read for ada",
		} {
			if !slices.Contains(seen, want) {
				t.Errorf("nothing of %q in %q", want, seen)
			}
		}
		if state, err := memos.At(db, "a").State(t.Context()); err != nil || !slices.Equal(state.Lines, []string{"x", "woken"}) {
			t.Errorf("it has %+v, %v", state, err)
		}
	})
}
