//go:build unix

package sqlite

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// A process that is frozen in a read, which nobody can end, stops the log at its hard limit, and with it commits: they
// fail with the reason, and go on when it has gone. Until then it is reported.
func TestLogIsBoundedBesideAProcessThatIsFrozen(t *testing.T) {
	path := filled(t)
	db := openAt(t, path)
	small(t, db)
	var told atomic.Pointer[error]
	defer db.Report(func(what error) { told.Store(&what) })()
	c := startChild(t, "read", path)
	c.line(t, "reads")
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	err := writePages(t.Context(), db, 1000)
	if err == nil || !strings.Contains(err.Error(), "another process reads") {
		t.Errorf("%v; want that another process reads without end", err)
	}
	if size, bound := logBytes(t, db), db.checkpoints.hardBytes+200*pageBytes; size > bound {
		t.Errorf("the log has %d bytes, more than %d", size, bound)
	}
	if what := told.Load(); what == nil || !strings.Contains((*what).Error(), "has grown") {
		t.Errorf("reported was %v", what)
	}
	if v := getKey(t, db, "before"); v != "" { // reads go on
		t.Errorf("read %q", v)
	}
	c.kill()
	await(t, "commits to go on", func() bool { return setKey(db, "after", "1") == nil })
	await(t, "the log to be given back", func() bool { return logBytes(t, db) <= db.checkpoints.maxBytes })
	if what := told.Load(); !strings.Contains((*what).Error(), "back in its bounds") {
		t.Errorf("reported was %v", *what)
	}
}
