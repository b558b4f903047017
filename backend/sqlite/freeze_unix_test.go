//go:build unix

package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	driver "zombiezen.com/go/sqlite"
)

func init() { children["freeze"] = childFreezes }

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
	await(t, "the log to be given back", func() bool { return logBytes(t, db) <= fileBytes(db.checkpoints.maxBytes) })
	if what := told.Load(); !strings.Contains((*what).Error(), "back in its bounds") {
		t.Errorf("reported was %v", *what)
	}
}

// childFreezes takes the write lock and stops there, as a process that is frozen in a commit does.
func childFreezes(ctx context.Context, db *DB) error {
	c, err := driver.OpenConn(db.path, driver.OpenReadWrite)
	if err != nil {
		return err
	}
	stmt, err := c.Prepare("BEGIN IMMEDIATE")
	if err == nil {
		err = drain(stmt)
	}
	if err == nil {
		fmt.Println("frozen")
		err = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
		<-ctx.Done() // another thread may take the signal, a moment later
	}
	return errors.Join(err, c.Close())
}

// A process that is frozen while it holds the write lock stops all commits, and no read. Who waits for one waits for as long as
// its context says; it is reported, and all goes on when that process is killed.
func TestFrozenWriterIsReportedAndEndsWithItsProcess(t *testing.T) {
	path := filled(t)
	db := openAt(t, path)
	db.writer.slowLock = 100 * time.Millisecond
	var told atomic.Pointer[error]
	defer db.Report(func(what error) { told.Store(&what) })()
	c := startChild(t, "freeze", path)
	c.line(t, "frozen")
	committed := make(chan bool, 1)
	go func() { committed <- setKey(db, "waits", "1") == nil }()
	await(t, "a report", func() bool { return told.Load() != nil })
	if what := *told.Load(); !strings.Contains(what.Error(), "has held the write lock") {
		t.Errorf("reported was %v", what)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := writePages(ctx, db, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a commit with little time ends with %v", err)
	}
	if v := getKey(t, db, "before"); v != "" { // reads go on
		t.Errorf("read %q", v)
	}
	select {
	case ok := <-committed:
		t.Errorf("something was committed beside the lock: %v", ok)
	default:
	}
	c.kill()
	if !<-committed {
		t.Error("the commit that waited failed")
	}
	await(t, "the all-clear", func() bool { return strings.Contains((*told.Load()).Error(), "can be written again") })
}
