package main

import (
	"strings"
	"testing"
)

func TestAFailingMessageSaysWhy(t *testing.T) {
	dir, db := start(t)
	srv := counters.At(db, "stuck")
	must(t, srv.Cast(t.Context(), explode{}))
	eventually(t, "it fails", func() bool { return statusOf(t, db, srv.Ref()).Attempts > 1 })
	stamp := stampsOf(t, dir, "queue", "counter/stuck")[0]
	out := succeed(t, dir, "status", "counter/stuck")
	for _, says := range []string{"explode " + stamp, " of 1000", "panic: boom", "next attempt", "tool_test.go"} {
		if !strings.Contains(out, says) {
			t.Errorf("it does not say %q: %s", says, out)
		}
	}
	if out := succeed(t, dir, "status", "counter/stuck", "--json"); !strings.Contains(out, `"error":"panic: boom"`) || !strings.Contains(out, `"max_attempts":1000`) {
		t.Errorf("it says %s", out)
	}
}
