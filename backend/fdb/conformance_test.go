//go:build fdb

package fdb

import (
	"context"
	"crypto/rand"
	"os"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
)

func TestBackendKeepsTheContract(t *testing.T) {
	backendtest.Run(t, open)
}

// open is an Opener on the cluster of the default cluster file, in a directory of its own.
func open(t testing.TB) func() backend.Database {
	needCluster(t)
	dir := freshDirectory(t, "")
	return func() backend.Database { return openTest(t, "", Dir(dir...)) }
}

func openTest(t testing.TB, clusterFile string, opts ...Option) *DB {
	t.Helper()
	db, err := Open(clusterFile, opts...)
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

// freshDirectory names a directory that is removed when the test ends.
func freshDirectory(t testing.TB, clusterFile string) []string {
	t.Helper()
	dir := []string{"dserver-test", rand.Text()}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := Remove(ctx, clusterFile, Dir(dir...)); err != nil {
			t.Errorf("remove the directory %q: %v", dir, err)
		}
	})
	return dir
}

// needCluster skips a test where there is no cluster, unless one was asked for.
func needCluster(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := reach(ctx)
	if err == nil {
		return
	}
	if os.Getenv("FDB") == "1" {
		t.Fatalf("FDB=1 asks for FoundationDB: %v", err)
	}
	t.Skipf("no FoundationDB cluster to test with (FDB=1 makes this a failure): %v", err)
}

func reach(ctx context.Context) error {
	db, err := Open("", Dir("dserver-test", "cleaner"))
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Read(ctx, func(tx backend.ReadTx) error {
		_, err := tx.Get(backend.NewKey("any")).Get()
		return err
	})
}
