//go:build fdb

package fdb

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"
	"github.com/apple/foundationdb/bindings/go/src/fdb/directory"
	"github.com/apple/foundationdb/bindings/go/src/fdb/tuple"

	"github.com/dserver-go/dserver/backend"
)

func clusterFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fdb.cluster")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatIsNoClusterFileIsRefused(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "cluster file") {
		t.Errorf("a missing file: %v", err)
	}
	for text, want := range map[string]string{
		"":                                   "empty",
		"# only a comment\n\n":               "empty",
		"postgres://localhost/db":            "no cluster file",
		"a:b@":                               "no cluster file",
		"just words\n":                       "no cluster file",
		strings.Repeat("very long line", 50): "no cluster file",
	} {
		if _, err := Open(clusterFile(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("a folder was taken for a cluster file")
	}
	for _, text := range []string{"a:b@127.0.0.1:1", "# comment\nde_v:X1@[::1]:4500:tls,h.example.com:4501\n"} {
		if err := checkClusterFile(clusterFile(t, text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Nothing listens at port 1. Every call ends with its context, and Close does not wait.
func TestAClusterThatIsNotThereIsWaitedForAsLongAsTheContextLasts(t *testing.T) {
	db := openTest(t, clusterFile(t, "none:none@127.0.0.1:1"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := db.Read(ctx, func(backend.ReadTx) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), db.cluster.name) {
		t.Errorf("the error does not say what was waited for: %v", err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- db.Transact(context.Background(), func(backend.Tx) error { return nil }) }()
	began := time.Now()
	db.Close()
	if err := <-waiting; !errors.Is(err, backend.ErrClosed) {
		t.Errorf("a call that waited when the database was closed: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
}

func TestApplicationsInOneClusterDoNotSeeEachOther(t *testing.T) {
	needCluster(t)
	root := freshDirectory(t, "")
	one := openTest(t, "", Dir(append(root, "one")...))
	two := openTest(t, "", Dir(append(root, "two")...))
	for _, db := range []*DB{one, two} {
		if _, _, err := increment(t.Context(), db, false); err != nil {
			t.Fatal(err)
		}
	}
	everything := backend.Range{Begin: backend.Key{}, End: backend.Key{0xff}}
	err := one.Transact(t.Context(), func(tx backend.Tx) error {
		pairs, err := tx.GetRange(everything, backend.RangeOptions{}).Get()
		if len(pairs) != 2 {
			t.Errorf("one application sees %d pairs, and has written 2", len(pairs))
		}
		tx.Clear(everything)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := counted(t, two); n != 1 {
		t.Errorf("one application cleared another's: %d", n)
	}
	if n, _ := counted(t, one); n != 0 {
		t.Errorf("counted %d after the clear", n)
	}
}

func TestADirectoryOfAnotherLayerIsRefused(t *testing.T) {
	needCluster(t)
	path := freshDirectory(t, "")
	other := openTest(t, "", Dir("dserver-test", "cleaner"))
	err := other.insist(t.Context(), func(tr fdb.Transaction) error {
		_, err := directory.CreateOrOpen(tr, path, []byte("another"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	db := openTest(t, "", Dir(path...))
	err = db.Read(t.Context(), func(backend.ReadTx) error { return nil })
	if err == nil || !strings.Contains(err.Error(), path[1]) {
		t.Errorf("another layer's directory was opened: %v", err)
	}
}

func TestADirectoryNeedsAName(t *testing.T) {
	if _, err := Open(clusterFile(t, "a:b@127.0.0.1:1"), Dir()); err == nil {
		t.Error("the root of the cluster was taken")
	}
}

// A read with its directory's prefix is what fdbcli shows: the prefix, and then the tuple.
func TestKeysAreBelowTheDirectorysPrefix(t *testing.T) {
	db := openFresh(t)
	if _, _, err := increment(t.Context(), db, false); err != nil {
		t.Fatal(err)
	}
	err := db.insist(t.Context(), func(tr fdb.Transaction) error {
		dir, err := directory.Open(tr, db.options.path, nil)
		if err != nil {
			return err
		}
		value, err := tr.Get(dir.Pack(tuple.Tuple{"n"})).Get()
		if n, _ := backend.Counter(value); n != 1 {
			t.Errorf("the counter at the directory's (n) is %d", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
