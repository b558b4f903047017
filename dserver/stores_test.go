package dserver_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/backend/fdb/fdbtest"
	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
	"github.com/dserver-go/dserver/backend/sqlite"
)

// eachStore runs a test on the model, on SQLite and, with FDB=1 and PG=1, on FoundationDB and PostgreSQL, and checks what is stored at its end.
// Each call of open is another process's handle.
func eachStore(t *testing.T, test func(t *testing.T, open func() backend.Database)) {
	t.Run("model", func(t *testing.T) { test(t, checked(t, backendtest.NewStore().Open)) })
	eachRealStore(t, test)
}

// checked is open, whose handles are closed when the test ends, and then what is stored is checked.
func checked(t *testing.T, open func() backend.Database) func() backend.Database {
	t.Cleanup(func() { // after the consumers ended
		db := open()
		check(t, db, ledgers, counters, safe, journal, rooms, desks(noWork))
		must(t, db.Close())
	})
	return func() backend.Database {
		db := open()
		t.Cleanup(func() { must(t, db.Close()) })
		return db
	}
}

// eachRealStore runs a test on SQLite and, with FDB=1 and PG=1, on FoundationDB and PostgreSQL. It is for tests that have the
// model in a bubble, where hours pass.
func eachRealStore(t *testing.T, test func(t *testing.T, open func() backend.Database)) {
	eachNamedStore(t, func(t *testing.T, place func(testing.TB) string) {
		name := place(t)
		test(t, checked(t, func() backend.Database { return openNamed(t, name) }))
	})
}

// eachNamedStore is eachRealStore for tests with other processes. Each place is a new database, that its name opens.
func eachNamedStore(t *testing.T, test func(t *testing.T, place func(testing.TB) (name string))) {
	if fdbtest.IsAsked() {
		t.Run("fdb", func(t *testing.T) { test(t, fdbtest.Name) })
	}
	if pgtest.IsAskedFor(t) {
		t.Run("postgres", func(t *testing.T) { test(t, pgtest.Name) })
	}
	t.Run("sqlite", func(t *testing.T) { test(t, newFile) })
}

// newFile is the name of a SQLite database that is removed when the test ends.
func newFile(t testing.TB) string { return filepath.Join(t.TempDir(), "test.db") }

// openNamed opens the database of a name. A file is not synced: it is processes that die here, and never the machine.
func openNamed(t testing.TB, name string) backend.Database {
	t.Helper()
	var db backend.Database
	var err error
	if path, isFile := open.File(name); isFile {
		db, err = sqlite.Open(path, sqlite.Relaxed())
	} else {
		db, err = open.Database(name)
	}
	must(t, err)
	return db
}

// childOf is a process that runs one test of this binary, which finds the name of its database in a variable.
func childOf(test, variable, name string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run", "^"+test+"$")
	cmd.Env = append(os.Environ(), variable+"="+name)
	return cmd
}

// brood is child processes that a test begins, and ends in any order. Those that are left are killed when the test ends.
type brood struct {
	t      *testing.T
	living []broodling
}

// broodling is such a process. It ends in order when its standard input does.
type broodling struct {
	*exec.Cmd
	alive io.Closer
}

func newBrood(t *testing.T) *brood {
	m := &brood{t: t}
	t.Cleanup(func() { m.endAll(func() (kill bool) { return true }) })
	return m
}

func (m *brood) begin(child *exec.Cmd) {
	m.t.Helper()
	child.Stdout = new(strings.Builder)
	alive, err := child.StdinPipe()
	must(m.t, err)
	must(m.t, child.Start())
	m.living = append(m.living, broodling{child, alive})
}

func (m *brood) end(i int, kill bool) {
	m.t.Helper()
	child := m.living[i]
	m.living = slices.Delete(m.living, i, i+1)
	if kill {
		must(m.t, child.Process.Kill())
	}
	must(m.t, child.alive.Close())
	if err := child.Wait(); err != nil && !kill {
		m.t.Errorf("a process ended with %v: %s", err, child.Stdout)
	}
}

func (m *brood) endAll(kill func() bool) {
	m.t.Helper()
	for len(m.living) > 0 {
		m.end(0, kill())
	}
}

// untilOrphaned ends when standard input does: a child whose parent has gone must not stay.
func untilOrphaned() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	return ctx
}
