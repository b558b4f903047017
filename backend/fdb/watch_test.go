//go:build fdb

package fdb

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
)

func watchKey(t testing.TB, db *DB, name string) (w backend.Watch) {
	t.Helper()
	err := db.Read(t.Context(), func(tx backend.ReadTx) error { w = tx.Watch(backend.NewKey(name)); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func fires(w backend.Watch, within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-w.Done():
		return true
	case <-timer.C:
		return false
	}
}

// Beyond the client library's limit a watch is an error, which counts as fired, after a pause.
func TestWatchesAreBoundedAndBeyondThatFireAfterAPause(t *testing.T) {
	db := openTest(t, separateCluster(t), Dir(freshDirectory(t, "")...))
	if err := db.cluster.conn.Options().SetMaxWatches(3); err != nil {
		t.Fatal(err)
	}
	var within []backend.Watch
	for range 3 {
		within = append(within, watchKey(t, db, "a"))
	}
	began := time.Now()
	beyond := watchKey(t, db, "a")
	if !fires(beyond, 20*time.Second) {
		t.Fatal("a watch beyond the limit is missing all changes")
	}
	if took := time.Since(began); took < watchPause/2 {
		t.Errorf("a watch beyond the limit fired after %v: its watcher spins", took)
	}
	for _, w := range within {
		if fires(w, 0) {
			t.Error("a watch within the limit fired for nothing")
		}
		w.Cancel()
	}
	waitUntil(t, "cancelled watches are given back", func() bool { return db.Stats().Watches == 0 })
	again := watchKey(t, db, "a")
	if fires(again, watchPause+100*time.Millisecond) {
		t.Error("cancelled watches still count")
	}
}

// A watch outlives the transaction that set it, and its context.
func TestAWatchOutlivesItsRead(t *testing.T) {
	db := openFresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	var w backend.Watch
	err := db.Read(ctx, func(tx backend.ReadTx) error { w = tx.Watch(backend.NewKey("n")); return nil })
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	defer w.Cancel()
	if fires(w, watchPause+100*time.Millisecond) {
		t.Error("it fired for nothing")
	}
	if _, _, err := increment(t.Context(), db, true); err != nil || !fires(w, 20*time.Second) {
		t.Errorf("it has missed a change: %v", err)
	}
}

// separateCluster is the default cluster by a file of the test's own, so that its connection has options of its own.
func separateCluster(t testing.TB) string {
	t.Helper()
	needCluster(t)
	c, err := connect("")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(c.name)
	if err != nil {
		t.Fatal(err)
	}
	return clusterFile(t, string(text))
}

// A watch adds no conflict to transactions on the key that it watches, and its own transaction writes nothing.
func TestAWatchIsInNobodysWay(t *testing.T) {
	db := openFresh(t)
	for range 20 {
		w := watchKey(t, db, "n")
		if _, _, err := increment(t.Context(), db, true); err != nil {
			t.Fatal(err)
		}
		if !fires(w, 20*time.Second) {
			t.Fatal("a change was missed")
		}
	}
	if s := db.Stats(); s.Conflicts != 0 || s.Commits != 20 {
		t.Errorf("%+v", s)
	}
}
