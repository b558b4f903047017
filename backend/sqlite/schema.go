package sqlite

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	driver "zombiezen.com/go/sqlite"
)

// The file holds two tables. kv is the key space. sequence is one row: the end of the block of commit numbers that was
// reserved last (see reserve in commit.go).
const (
	applicationID = 0x44537276 // "DSrv": tells our files from those of others
	schemaVersion = 1
	pageBytes     = 4096

	schema = `
CREATE TABLE kv (k BLOB NOT NULL PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE sequence (id INTEGER PRIMARY KEY CHECK (id = 1), reserved INTEGER NOT NULL) STRICT;
INSERT INTO sequence VALUES (1, 0)`
)

// The time that Open waits for locks of other processes, and how long any wait for a lock pauses between looks.
const (
	openWait  = 10 * time.Second
	busyPause = time.Millisecond
)

// connect opens a connection for one goroutine at a time. It never waits for locks, so that the waits stay ours, and
// never makes the file.
func connect(path string) (*driver.Conn, error) {
	c, err := driver.OpenConn(path, driver.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	c.SetBusyTimeout(0)
	// Checkpoints are made by their own goroutine; one within a commit would make all who wait for it slow.
	if err := execute(c, "PRAGMA wal_autocheckpoint = 0"); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// prepareFile makes the file ours, or finds that it is not.
func prepareFile(c *driver.Conn, o options) error {
	// Only then the pragmas: a write-ahead log in the database of another program would be our change to it.
	if err := patiently(func() error { _, err := checkSchema(c); return err }); err != nil {
		return err
	}
	for _, pragma := range append(filePragmas(), syncPragmas(o)...) {
		if err := patiently(func() error { return execute(c, pragma) }); err != nil {
			return err
		}
	}
	if mode, err := text(c, "PRAGMA journal_mode"); err != nil || mode != "wal" {
		return errors.Join(err, fmt.Errorf("the file system does not let it use a write-ahead log (mode %q)", mode))
	}
	if err := patiently(func() error { return createSchema(c) }); err != nil {
		return err
	}
	return checkWritable(c)
}

// checkWritable finds a read-only file at once instead of at the first commit. A lock that is in the way is no
// obstacle: SQLite looks at the permissions first. Nothing is written, as the transaction is rolled back.
func checkWritable(c *driver.Conn) error {
	err := executeAll(c, "BEGIN IMMEDIATE", "UPDATE sequence SET reserved = reserved")
	if isBusy(err) {
		err = nil
	}
	return errors.Join(err, rollBack(c))
}

// filePragmas change the file and are kept in it.
func filePragmas() []string {
	return []string{fmt.Sprintf("PRAGMA page_size = %d", pageBytes), "PRAGMA journal_mode = WAL"}
}

// syncPragmas are those of a connection that writes or makes checkpoints.
func syncPragmas(o options) []string {
	p := []string{synchronous(!o.relaxed),
		fmt.Sprintf("PRAGMA journal_size_limit = %d", logMaxBytes)} // to which a log that begins anew is cut
	if runtime.GOOS == "darwin" { // where fsync alone leaves the data in the drive's memory
		p = append(p, "PRAGMA fullfsync = ON", "PRAGMA checkpoint_fullfsync = ON")
	}
	return p
}

// createSchema makes the tables in an empty file and checks those of others. Only an empty file is written to.
func createSchema(c *driver.Conn) error {
	if ok, err := checkSchema(c); ok || err != nil {
		return err
	}
	if err := execute(c, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	ok, err := checkSchema(c) // another process may have been faster
	if !ok && err == nil {
		err = executeAll(c, schema, fmt.Sprintf("PRAGMA application_id = %d", applicationID),
			fmt.Sprintf("PRAGMA user_version = %d", schemaVersion))
	}
	if err == nil {
		err = execute(c, "COMMIT")
	}
	return errors.Join(err, rollBack(c))
}

// describeFile reads what tells our files from others, in one statement: between two, another process may create it.
const describeFile = `SELECT (SELECT application_id FROM pragma_application_id),
	(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)`

// checkSchema reports whether the tables are there, in the version that we know.
func checkSchema(c *driver.Conn) (bool, error) {
	var id, version, tables int64
	err := first(c, describeFile, func(stmt *driver.Stmt) {
		id, version, tables = stmt.ColumnInt64(0), stmt.ColumnInt64(1), stmt.ColumnInt64(2)
	})
	switch {
	case err != nil:
		return false, err
	case id == 0 && tables == 0:
		return false, nil
	case id != applicationID:
		return false, fmt.Errorf("it is the database of another program (application_id %#x); name another file", id)
	case version > schemaVersion:
		return false, fmt.Errorf("it was written by a newer release (schema %d, this one knows %d); update this program",
			version, schemaVersion)
	case version < schemaVersion:
		return false, fmt.Errorf("schema %d is not known; this release knows %d", version, schemaVersion)
	}
	return true, nil
}

// patiently repeats what meets a lock until openWait is over.
func patiently(do func() error) error {
	deadline := time.Now().Add(openWait)
	for {
		err := do()
		if err == nil || !isBusy(err) || time.Now().After(deadline) {
			return err
		}
		<-time.After(busyPause)
	}
}

// rollBack ends a transaction, if there is one: SQLite may have ended it itself.
func rollBack(c *driver.Conn) error {
	if c.AutocommitEnabled() {
		return nil
	}
	return execute(c, "ROLLBACK")
}

func executeAll(c *driver.Conn, scripts ...string) error {
	for _, s := range scripts {
		if err := execute(c, s); err != nil {
			return err
		}
	}
	return nil
}

// execute runs statements whose rows nobody wants.
func execute(c *driver.Conn, script string) error {
	for script != "" {
		stmt, rest, err := c.PrepareTransient(script)
		if err != nil {
			return err
		}
		script = script[len(script)-rest:]
		if err := errors.Join(drain(stmt), stmt.Finalize()); err != nil {
			return err
		}
	}
	return nil
}

// drain steps to the end of a statement that may be used again.
func drain(stmt *driver.Stmt) error {
	for {
		row, err := stmt.Step()
		if err != nil {
			return err
		}
		if !row {
			return stmt.Reset()
		}
	}
}

func number(c *driver.Conn, query string) (n int64, err error) {
	err = first(c, query, func(stmt *driver.Stmt) { n = stmt.ColumnInt64(0) })
	return n, err
}

func text(c *driver.Conn, query string) (s string, err error) {
	err = first(c, query, func(stmt *driver.Stmt) { s = stmt.ColumnText(0) })
	return s, err
}

// first shows the first row of a query that is used seldom.
func first(c *driver.Conn, query string, row func(*driver.Stmt)) error {
	stmt, _, err := c.PrepareTransient(query)
	if err != nil {
		return err
	}
	ok, err := stmt.Step()
	if ok {
		row(stmt)
	} else if err == nil {
		err = fmt.Errorf("%s: no row", query)
	}
	return errors.Join(err, stmt.Finalize())
}
