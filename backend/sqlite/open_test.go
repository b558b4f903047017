package sqlite

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend"
)

// refused checks that Open refuses path with an error that has the words, and leaves the file as it is.
func refused(t *testing.T, path string, words ...string) error {
	t.Helper()
	before, _ := os.ReadFile(path)
	db, err := Open(path)
	if err == nil {
		db.Close()
		t.Fatalf("%s was opened", path)
	}
	for _, w := range append(words, path) {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in: %v", w, err)
		}
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file that was refused is changed")
	}
	return err
}

// rawFile makes a database by the driver alone.
func rawFile(t *testing.T, path string, scripts ...string) {
	t.Helper()
	c, err := driver.OpenConn(path, driver.OpenReadWrite, driver.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(executeAll(c, scripts...), c.Close()); err != nil {
		t.Fatal(err)
	}
}

// filled makes a database of ours with several pages and returns its path.
func filled(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.db")
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		err := db.Transact(t.Context(), func(tx backend.Tx) error {
			for j := range 20 {
				tx.Set(backend.NewKey("k", i, j), bytes.Repeat([]byte{byte(i)}, 100))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenRefusesWithAClearError(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, bytes.Repeat([]byte("no database\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := refused(t, text, "no SQLite database"); !errors.Is(err, backend.ErrCorrupt) {
		t.Errorf("%v is not ErrCorrupt", err)
	}
	other := filepath.Join(dir, "other.db")
	rawFile(t, other, "CREATE TABLE theirs (x)")
	refused(t, other, "another program")
	newer := filepath.Join(dir, "newer.db")
	rawFile(t, newer, schema, "PRAGMA application_id = 0x44537276", "PRAGMA user_version = 99")
	refused(t, newer, "newer release", "schema 99")
	refused(t, dir, "folder", "dserver.db")
	refused(t, filepath.Join(dir, "missing", "test.db"), "folder is not there", "create it")
	refused(t, filepath.Join(text, "test.db"), "folder")
	refused(t, "", "path")
	refused(t, ":memory:", "path")
}

func TestDamagedHeaderIsCorrupt(t *testing.T) {
	path := filled(t)
	damage(t, path, 0, 100)
	if err := refused(t, path, "backup"); !errors.Is(err, backend.ErrCorrupt) {
		t.Errorf("%v is not ErrCorrupt", err)
	}
}

func damage(t *testing.T, path string, offset, size int) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copy(content[offset:], bytes.Repeat([]byte{0x5a}, size))
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Damage in the middle is found by who reads there; the rest goes on.
func TestDamagedPageIsCorruptToWhoReadsIt(t *testing.T) {
	path := filled(t)
	damage(t, path, 5*pageBytes, 10*pageBytes)
	db := openAt(t, path)
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		_, err := tx.GetRange(backend.NewKey("k").Below(), backend.RangeOptions{}).Get()
		return err
	})
	if !errors.Is(err, backend.ErrCorrupt) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v; want ErrCorrupt and the path", err)
	}
}

// Damage that a commit meets ends the handle.
func TestDamagedPageEndsTheHandleThatCommitsThere(t *testing.T) {
	path := filled(t)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damage(t, path, 5*pageBytes, len(content)-6*pageBytes)
	db := openAt(t, path)
	for i := range 50 {
		err = db.Transact(t.Context(), func(tx backend.Tx) error {
			tx.Set(backend.NewKey("k", i, 5), nil)
			return nil
		})
		if err != nil {
			break
		}
	}
	if !errors.Is(err, backend.ErrCorrupt) {
		t.Fatalf("%v; want ErrCorrupt", err)
	}
	if err := setKey(db, "a", "1"); !errors.Is(err, backend.ErrClosed) || !errors.Is(err, backend.ErrCorrupt) {
		t.Errorf("%v; want ErrClosed with ErrCorrupt", err)
	}
}

func TestReadOnlyFileOrFolderIsRefused(t *testing.T) {
	for what, makeReadOnly := range map[string]func(path string) error{
		"file":   func(path string) error { return os.Chmod(path, 0o444) },
		"folder": func(path string) error { return os.Chmod(filepath.Dir(path), 0o555) },
	} {
		t.Run(what, func(t *testing.T) {
			path := filled(t)
			dir := filepath.Dir(path)
			for _, p := range []string{filepath.Dir(dir), dir, path} {
				if err := os.Chmod(p, 0o777); err != nil {
					t.Fatal(err)
				}
			}
			if err := makeReadOnly(path); err != nil {
				t.Fatal(err)
			}
			defer os.Chmod(dir, 0o777)
			asNobody(t, func() { refused(t, path, "right to write") })
		})
	}
}

// A process that holds the file as a whole keeps Open waiting, for a time.
func TestOpenWaitsForALock(t *testing.T) {
	path := filled(t)
	c, err := driver.OpenConn(path, driver.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := executeAll(c, "PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error)
	go func() {
		db, err := Open(path)
		if err == nil {
			err = db.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("opened in spite of the lock: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
}

func TestLockThatStaysIsNamed(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it waits as long as Open does,", openWait)
	}
	t.Parallel()
	path := filled(t)
	c, err := driver.OpenConn(path, driver.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := executeAll(c, "PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	if db, err := Open(path); err == nil {
		db.Close()
		t.Error("opened in spite of the lock")
	} else if !strings.Contains(err.Error(), "another process holds a lock") {
		t.Error(err)
	}
}

func TestRelaxedCommitsWithoutFsync(t *testing.T) {
	for _, c := range []struct {
		opts []Option
		want int64
	}{{nil, 2}, {[]Option{Relaxed()}, 1}} {
		db := openTest(t, c.opts...)
		for what, conn := range map[string]*driver.Conn{"writer": db.writer.conn.conn, "checkpoint": db.checkpoints.conn} {
			if got, err := number(conn, "PRAGMA synchronous"); err != nil || got != c.want {
				t.Errorf("%s: synchronous is %d, %v; want %d", what, got, err, c.want)
			}
		}
	}
}

func TestOpenAtOnceCreatesOneSchema(t *testing.T) {
	const files, handles = 5, 8
	for range files {
		path := filepath.Join(t.TempDir(), "test.db")
		errs := make(chan error, handles)
		for range handles {
			go func() {
				db, err := Open(path)
				if err == nil {
					err = errors.Join(setKey(db, "a", "1"), db.Close())
				}
				errs <- err
			}()
		}
		for range handles {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	}
}
