// Package pgtest lends tests a PostgreSQL server: that of the variable PGTEST_URL, or one of their own, which is made of
// the installed binaries in a temporary folder, listens on the loopback address, and is stopped and removed when the
// test's process ends, however it ends.
package pgtest

import (
	"context"
	"crypto/rand"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// patience bounds what a server is waited for.
const patience = 30 * time.Second

// IsAsked reports whether PG=1 asks for all tests on PostgreSQL.
func IsAsked() bool { return os.Getenv("PG") == "1" }

// IsAskedFor reports whether a test is asked for on PostgreSQL: by PG=1, or by a PG that is a regular expression which the
// test's name matches.
func IsAskedFor(t testing.TB) bool {
	t.Helper()
	pattern := os.Getenv("PG")
	if pattern == "" {
		return false
	}
	matches, err := regexp.MatchString(pattern, t.Name())
	if err != nil {
		t.Fatalf("PG is 1, or a regular expression of names of tests: %v", err)
	}
	return matches || IsAsked()
}

// need skips the test where there is no server, or fails it where PG asks for one.
func need(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("PG") != "":
		t.Fatalf("PG=%s asks for PostgreSQL: %v", os.Getenv("PG"), err)
	default:
		t.Skipf("no PostgreSQL to test with (PG=1 makes this a failure): %v", err)
	}
}

// shared is the server of this process. It lives as long as that: the pipe of one that is garbage is closed, which ends it.
var shared = sync.OnceValues(func() (*Server, error) { //nolint:gochecknoglobals // a process has one
	s, err := begin(nil)
	if err != nil {
		return nil, err
	}
	return s, s.Start()
})

// URL is the database of the server that the tests of this process share, without a schema. Where there is none the test
// is skipped and says so; with PG it fails.
func URL(t testing.TB) string {
	t.Helper()
	if url := os.Getenv("PGTEST_URL"); url != "" {
		return url
	}
	s, err := shared()
	need(t, err)
	return s.URL()
}

// Name is the name of a new schema, for package open. It is removed when the test ends.
func Name(t testing.TB) string {
	t.Helper()
	return Schema(t, URL(t))
}

// Schema is the name of a new schema in the database of url. It is removed when the test ends.
func Schema(t testing.TB, url string) string {
	t.Helper()
	schema := "test_" + strings.ToLower(rand.Text())
	t.Cleanup(func() { Exec(t, url, `DROP SCHEMA IF EXISTS "`+schema+`" CASCADE`) })
	separator := "?"
	if strings.Contains(url, "?") {
		separator = "&"
	}
	return url + separator + "dserver_schema=" + schema
}

// SchemaOf is the schema in a name.
func SchemaOf(name string) string {
	_, schema, _ := strings.Cut(name, "dserver_schema=")
	schema, _, _ = strings.Cut(schema, "&")
	return schema
}

// Exec runs statements in the database of url. It returns the first column of the last statement's first row, as text.
func Exec(t testing.TB, url, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	url, _, _ = strings.Cut(url, "?")
	c, err := pgconn.Connect(ctx, url)
	if err != nil {
		t.Errorf("connect to the test's server: %v", err)
		return ""
	}
	defer func() { _ = c.Close(ctx) }() // it was used
	results, err := c.Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Errorf("%s: %v", sql, err)
		return ""
	}
	for i := len(results) - 1; i >= 0; i-- {
		if rows := results[i].Rows; len(rows) > 0 && len(rows[0]) > 0 {
			return string(rows[0][0])
		}
	}
	return ""
}

// NewServer starts a server of the test's own, with further settings of the form name=value, which is removed when the
// test ends.
func NewServer(t testing.TB, settings ...string) *Server {
	t.Helper()
	template, err := shared()
	need(t, err)
	s, err := begin(template)
	need(t, err)
	t.Cleanup(s.End)
	s.settings = settings
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}
