// Package fdbtest lends tests a place in a FoundationDB cluster.
package fdbtest

import (
	"context"
	"crypto/rand"
	"os"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/fdb"
)

const (
	root     = "dserver-test" // above all directories of tests
	patience = 20 * time.Second
)

// IsAsked reports whether FDB=1 asks for tests on FoundationDB.
func IsAsked() bool { return os.Getenv("FDB") == "1" }

// Dir is a directory of the default cluster that is empty, and removed when the test ends. Where there is no cluster
// the test is skipped and says so; with FDB=1 it fails.
func Dir(t testing.TB) []string {
	t.Helper()
	dir := []string{root, rand.Text()}
	if err := reach(dir); err != nil {
		if IsAsked() {
			t.Fatalf("FDB=1 asks for FoundationDB: %v", err)
		}
		t.Skipf("no FoundationDB to test with (FDB=1 makes this a failure): %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := fdb.Remove(ctx, "", fdb.Dir(dir...)); err != nil {
			t.Errorf("remove the directory %q: %v", dir, err)
		}
	})
	return dir
}

// Name is Dir as the name of a database, for package open.
func Name(t testing.TB) string {
	t.Helper()
	dir := Dir(t)
	return "fdb:?dir=" + dir[0] + "/" + dir[1]
}

// Open is an Opener of the conformance suite: handles on a new Dir, which the test need not close.
func Open(t testing.TB) func() backend.Database {
	t.Helper()
	dir := Dir(t)
	return func() backend.Database {
		db, err := fdb.Open("", fdb.Dir(dir...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return db
	}
}

func reach(dir []string) error {
	db, err := fdb.Open("", fdb.Dir(dir...))
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return db.Read(ctx, func(backend.ReadTx) error { return nil })
}
