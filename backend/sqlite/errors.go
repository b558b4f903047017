package sqlite

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

var errs = occ.NewErrors("sqlite") //nolint:gochecknoglobals // errors

// errNoSequence is damage that SQLite does not see.
var errNoSequence = fmt.Errorf("sqlite: %w: the sequence row is missing", backend.ErrCorrupt)

// errOutOfFiles is what SQLite cannot tell from a file that may not be opened.
var errOutOfFiles = errors.New("this process has as many files open as it may: raise its limit (ulimit -n), " +
	"or let fewer transactions read at once; each has two files")

// isOutOfFiles asks the system, by a file that is always there. It may not be the database: to close it would drop the
// locks of the whole process.
func isOutOfFiles() bool {
	f, err := os.Open(os.DevNull)
	if err == nil {
		_ = f.Close() // nothing was written
	}
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// hints say what to do, by SQLite's primary result code.
var hints = map[driver.ResultCode]string{
	driver.ResultFull: "the disk is full: nothing of this was stored and nothing is lost; free some space and go on",
	driver.ResultReadOnly: "the file or its folder is read-only: give this user the right to write both " +
		"(SQLite keeps two more files beside it, -wal and -shm)",
	driver.ResultCantOpen: "it or a file beside it (-wal, -shm) cannot be opened: look at the folder and its permissions",
	driver.ResultPerm:     "it or a file beside it (-wal, -shm) may not be opened: look at the permissions",
	driver.ResultNotADB:   "it is no SQLite database, or its first page is damaged: check the path, or restore a backup",
	driver.ResultCorrupt: "the file is damaged: stop all processes, copy the file and its -wal, and restore a backup " +
		"or save what can be read with the sqlite3 tool's .recover",
	driver.ResultBusy:     "another process holds a lock on it: end that process or its transaction",
	driver.ResultProtocol: "its locks are in disorder, as on network file systems: keep it on a local disk",
	driver.ResultIOErr:    "the disk reported an error: look at the system's log, and open it again when the disk is sound",
	driver.ResultNoMem:    "memory ran out",
}

// describe wraps an error of the driver with what was being done, the file and a hint.
func describe(doing, path string, err error) error {
	code := driver.ErrCode(err).ToPrimary()
	hint, ok := hints[code]
	switch {
	case code == driver.ResultCantOpen && isOutOfFiles():
		return fmt.Errorf("sqlite: %s %s: %w: %w", doing, path, errOutOfFiles, err)
	case !ok:
		return fmt.Errorf("sqlite: %s %s: %w", doing, path, err)
	case code == driver.ResultCorrupt || code == driver.ResultNotADB:
		return fmt.Errorf("sqlite: %s %s: %s: %w: %w", doing, path, hint, backend.ErrCorrupt, err)
	}
	return fmt.Errorf("sqlite: %s %s: %s: %w", doing, path, hint, err)
}

// isBusy reports whether another connection is in the way for now.
func isBusy(err error) bool { return driver.ErrCode(err).ToPrimary() == driver.ResultBusy }

// isUnopened reports whether a file could not be opened.
func isUnopened(err error) bool { return driver.ErrCode(err).ToPrimary() == driver.ResultCantOpen }

// isHarmless reports whether a write that failed so has certainly not happened, and the handle can go on.
// An I/O error, above all of the fsync in COMMIT, is not: the frames may be in the log and come true when it is
// opened again. A full disk is: it fails the write of a frame, so the frame that would end the commit is not whole.
func isHarmless(err error) bool {
	switch driver.ErrCode(err).ToPrimary() {
	case driver.ResultFull, driver.ResultNoMem, driver.ResultInterrupt, driver.ResultBusy, driver.ResultReadOnly:
		return true
	}
	return false
}

// closedBy is what calls get after the handle was ended by cause.
func closedBy(cause error) error {
	if cause == nil {
		return backend.ErrClosed
	}
	return fmt.Errorf("%w: %w", backend.ErrClosed, cause)
}

// unknownBy is what a group gets whose commit ended in cause.
func unknownBy(cause error) error { return fmt.Errorf("%w: %w", backend.ErrCommitUnknown, cause) }
