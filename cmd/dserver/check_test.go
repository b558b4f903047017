package main

import (
	"strings"
	"testing"

	"github.com/dserver-go/dserver/backend"
)

// What is broken by hand is found, planned, mended and written down; what cannot be mended is said with what to do.
func TestWhatIsBrokenIsMended(t *testing.T) {
	dir, db := start(t)
	must(t, mailboxes.At(db, "ada").Cast(t.Context(), letter1{Text: "x"}))
	for i, damage := range []func(tx backend.Tx){
		func(tx backend.Tx) { tx.Clear(backend.NewKey("r").Below()) },
		func(tx backend.Tx) { tx.Set(backend.NewKey("b", int64(1)), []byte("x")) },
	} {
		must(t, db.Transact(t.Context(), func(tx backend.Tx) error { damage(tx); return nil }))
		how := []string{"set its ready mark", "let the bell begin anew"}[i]
		stdout, stderr, code := dserverTool(t, dir, "--db", "app.db", "check")
		if code != exitFailed || !strings.Contains(stdout, "dserver --db app.db repair would "+how) || !strings.Contains(stderr, "findings: 1") {
			t.Errorf("check: exit code %d, %s%s", code, stdout, stderr)
		}
		if out := succeed(t, dir, "repair", "--dry-run"); !strings.Contains(out, "would "+how) || !strings.Contains(out, "would be mended: 1\n") {
			t.Errorf("repair --dry-run: %s", out)
		}
		if out := succeed(t, dir, "repair"); !strings.Contains(out, "mended: "+how) || !strings.Contains(out, "\nmended: 1\n") {
			t.Errorf("repair: %s", out)
		}
		if out := succeed(t, dir, "check"); out != "nothing is wrong\n" {
			t.Errorf("check afterwards: %s", out)
		}
		if out := succeed(t, dir, "repair", "--json"); out != `{"mended":0}`+"\n" {
			t.Errorf("repair again: %s", out)
		}
		if out := succeed(t, dir, "audit", "--limit", "1"); !strings.Contains(out, "Repair") || !strings.Contains(out, how) || !strings.Contains(out, "ada@ops") {
			t.Errorf("audit: %s", out)
		}
	}
	must(t, db.Transact(t.Context(), func(tx backend.Tx) error { tx.Set(backend.NewKey("s", "mailbox", "ada", "w"), []byte("x")); return nil }))
	for _, command := range []string{"check", "repair"} {
		stdout, stderr, code := dserverTool(t, dir, "--db", "app.db", command, "--json")
		if code != exitFailed || !strings.Contains(stdout, `"place":"mailbox/ada","advice":"unlock ends a lock`) || !strings.Contains(stderr, "findings") {
			t.Errorf("%s of what cannot be mended: exit code %d, %s%s", command, code, stdout, stderr)
		}
	}
}
