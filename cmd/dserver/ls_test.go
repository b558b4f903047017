package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/backend/sqlite"
)

// lines is an output that cancels when it has so many lines of a kind.
type lines struct {
	bytes.Buffer
	cancel func()
	until  string
	times  int
}

func (l *lines) Write(b []byte) (int, error) {
	n, err := l.Buffer.Write(b)
	if strings.Count(l.String(), l.until) >= l.times {
		l.cancel()
	}
	return n, err
}

// A list that is watched is printed again and again, each time with what is there then, until it is interrupted.
func TestAListIsWatchedUntilItIsInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	db, err := sqlite.Open(path, sqlite.Relaxed())
	must(t, err)
	defer db.Close()
	must(t, mailboxes.At(db, "ada").Cast(t.Context(), letter1{}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &lines{cancel: cancel, until: "mailbox/ada", times: 3}
	var errs bytes.Buffer
	if code := run(ctx, []string{"--db", path, "ls", "--watch", "10ms"}, out, &errs); code != exitDone {
		t.Fatalf("exit code %d, %s", code, errs.String())
	}
	if n := strings.Count(out.String(), "SERVER"); n != 3 || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%d pages:\n%s", n, out)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	out = &lines{cancel: cancel, until: "mailbox/ada", times: 2}
	if code := run(ctx, []string{"--db", path, "top", "--watch", "10ms"}, out, &errs); code != exitDone || strings.Count(out.String(), "SERVER") != 2 {
		t.Errorf("top: exit code %d, %s%s", code, out, errs.String())
	}
}

// The most comes first, whatever the names.
func TestAListIsSorted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	db, err := sqlite.Open(path, sqlite.Relaxed())
	must(t, err)
	defer db.Close()
	for id, n := range map[string]int{"a": 1, "b": 3, "c": 2} {
		for range n {
			must(t, mailboxes.At(db, id).Cast(t.Context(), letter1{}))
		}
	}
	out := tooled(t, path, "ls", "--sort", "queued")
	if b, c, a := strings.Index(out, "mailbox/b"), strings.Index(out, "mailbox/c"), strings.Index(out, "mailbox/a"); b > c || c > a {
		t.Errorf("it is sorted as\n%s", out)
	}
}
