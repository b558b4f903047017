package sqlite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// counterIn is a range as a server's head is: a first key that each transaction writes, and items that others push.
var counterIn = backend.NewKey("server")

// bump reads counterIn as a snapshot and stamps a key in it. Within tells of the pairs and of the connections in use.
func bump(db *DB, within func(tx backend.Tx, pairs []backend.KeyValue) error) error {
	return db.Transact(context.Background(), func(tx backend.Tx) error {
		pairs, err := tx.GetRange(counterIn.Below(), backend.RangeOptions{Snapshot: true}).Get()
		if err != nil {
			return err
		}
		if err := within(tx, pairs); err != nil {
			return err
		}
		tx.Stamp(counterIn.Str("version"))
		return nil
	})
}

func isReading(db *DB) bool {
	db.pool.mu.Lock()
	defer db.pool.mu.Unlock()
	return len(db.pool.running) > 0
}

// forgetOthers makes a handle take it that nobody else commits, as it does after a second.
func forgetOthers(dbs ...*DB) {
	for _, db := range dbs {
		db.log.ForgetForeign()
	}
}

// A range that was just written needs no read.
func TestRecentRangeIsNotReadAgain(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "first", "1") // before which others may have committed
	var last backend.Versionstamp
	for i := range 2 * occ.RecentRecords {
		var version backend.Future[backend.Versionstamp]
		err := bump(db, func(tx backend.Tx, pairs []backend.KeyValue) error {
			if i > 0 && (isReading(db) || len(pairs) != 1 || string(pairs[0].Value) != string(last[:])) {
				t.Fatalf("run %d reads the file: %t; it has %v; want %v", i, isReading(db), pairs, last)
			}
			version = tx.Version()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if last, err = version.Get(); err != nil {
			t.Fatal(err)
		}
	}
}

// What is remembered of a range keeps the records since: so it is forgotten by age, and by size.
func TestRecentRangesAreForgotten(t *testing.T) {
	db := openTest(t, Relaxed())
	mustSet(t, db, "first", "1")
	if err := bump(db, func(backend.Tx, []backend.KeyValue) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if n, _ := db.log.Remembered(); n != 1 {
		t.Fatalf("%d ranges are remembered", n)
	}
	for i := range 2*occ.RecentRecords + 2 {
		mustSet(t, db, fmt.Sprint("other ", i), "1")
	}
	if n, _ := db.log.Remembered(); n != 0 {
		t.Errorf("%d ranges are remembered", n)
	}
	value := make([]byte, occ.RecentRange/2)
	for i := range 3 * occ.RecentBytes / len(value) {
		key := backend.NewKey("much", i)
		err := db.Transact(t.Context(), func(tx backend.Tx) error {
			_, err := tx.GetRange(key.Tree(), backend.RangeOptions{Snapshot: true}).Get()
			tx.Set(key, value[:occ.RecentValue])
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		_, held := db.log.Remembered()
		if held > 2*occ.RecentBytes {
			t.Fatalf("%d bytes are remembered", held)
		}
	}
}

// A transaction that was told of what another process has changed meanwhile runs again, however it ends.
func TestRecentRangeOfAnotherProcess(t *testing.T) {
	errEnd := errors.New("the end")
	for name, end := range map[string]func(tx backend.Tx) error{
		"writes":        func(tx backend.Tx) error { tx.Set(backend.NewKey("elsewhere"), nil); return nil },
		"only reads":    func(backend.Tx) error { return nil },
		"fails":         func(backend.Tx) error { return errEnd },
		"hides a fault": func(tx backend.Tx) error { _, _ = tx.Get(backend.NewKey("more")).Get(); return nil },
		"reads more": func(tx backend.Tx) error {
			value, err := tx.Get(backend.NewKey("more")).Get()
			if err == nil && value != nil {
				t.Error("two snapshots in one transaction")
			}
			return err
		},
		"names a key": func(tx backend.Tx) error { tx.Conflict(backend.NewKey("more")); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "test.db")
			db, other := openAt(t, path), openAt(t, path)
			mustSet(t, db, "first", "1")
			if err := bump(db, func(backend.Tx, []backend.KeyValue) error { return nil }); err != nil {
				t.Fatal(err)
			}
			forgetOthers(db)
			runs := 0
			err := db.Transact(t.Context(), func(tx backend.Tx) error {
				runs++
				pairs, err := tx.GetRange(counterIn.Below(), backend.RangeOptions{Snapshot: true}).Get()
				if err != nil {
					return err
				}
				if runs > 1 {
					if len(pairs) != 2 {
						t.Errorf("the second run has %v", pairs)
					}
					return nil
				}
				if isReading(db) || len(pairs) != 1 {
					t.Fatalf("it reads the file: %t; it has %v", isReading(db), pairs)
				}
				err = other.Transact(t.Context(), func(tx backend.Tx) error {
					tx.Append(counterIn.Str("z"), []byte("pushed"))
					tx.Set(backend.NewKey("more"), []byte("1"))
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				return end(tx)
			})
			if err != nil || runs != 2 {
				t.Errorf("%d runs, %v", runs, err)
			}
		})
	}
}

// A push of this process is in nobody's way, and in the next read.
func TestRecentRangeSeesPushes(t *testing.T) {
	db := openTest(t)
	runs, pushed := 0, 0
	for range 10 {
		err := bump(db, func(_ backend.Tx, pairs []backend.KeyValue) error {
			runs++
			if len(pairs) != pushed+min(runs-1, 1) {
				t.Errorf("after %d pushes it has %v", pushed, pairs)
			}
			pushed++
			return db.Transact(t.Context(), func(tx backend.Tx) error {
				tx.Append(counterIn.Str("z"), []byte("pushed"))
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if runs != 10 {
		t.Errorf("%d runs; a push made some of them lose", runs)
	}
}

// What is remembered holds what others wrote before, while and after its transaction ran, and answers only the same
// question.
func TestRecentRangeIsWholeAndTrue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	db, other := openAt(t, path), openAt(t, path)
	nothing := func(backend.Tx, []backend.KeyValue) error { return nil }
	want := func(n int, o backend.RangeOptions, r backend.Range) {
		t.Helper()
		err := db.Transact(t.Context(), func(tx backend.Tx) error {
			pairs, err := tx.GetRange(r, o).Get()
			if len(pairs) != n {
				t.Errorf("%d pairs; want %d", len(pairs), n)
			}
			tx.Set(backend.NewKey("elsewhere"), nil)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		forgetOthers(db)
	}
	whole, snapshot := counterIn.Below(), backend.RangeOptions{Snapshot: true}
	push := func(tx backend.Tx, _ []backend.KeyValue) error { tx.Append(counterIn.Str("a"), nil); return nil }
	elsewhere := func(db *DB) error {
		return db.Transact(t.Context(), func(tx backend.Tx) error { return push(tx, nil) })
	}
	mustSet(t, db, "first", "1")

	// A process pushes between the read and the commit.
	if err := bump(db, func(backend.Tx, []backend.KeyValue) error { return elsewhere(other) }); err != nil {
		t.Fatal(err)
	}
	forgetOthers(db)
	want(2, snapshot, whole)

	// So it does, and another transaction of this process meets it first.
	db.log.Forget()
	err := bump(db, func(backend.Tx, []backend.KeyValue) error {
		err := elsewhere(other)
		mustSet(t, db, "second", "1")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	forgetOthers(db)
	want(3, snapshot, whole)

	// The transaction pushes itself.
	db.log.Forget()
	if err := bump(db, push); err != nil {
		t.Fatal(err)
	}
	want(4, snapshot, whole)

	// One of the same group pushes.
	if err := bump(db, nothing); err != nil {
		t.Fatal(err)
	}
	db.writer.turn.Lock()
	both := make(chan error, 2)
	go func() { both <- bump(db, nothing) }()
	awaitQueue(t, db, 1)
	go func() { both <- elsewhere(db) }()
	awaitQueue(t, db, 2)
	db.writer.turn.Unlock()
	if err := errors.Join(<-both, <-both); err != nil {
		t.Fatal(err)
	}
	want(5, snapshot, whole)

	// Limits, another end, and own writes.
	if err := bump(db, nothing); err != nil {
		t.Fatal(err)
	}
	want(2, backend.RangeOptions{Snapshot: true, Limit: 2}, whole)
	want(5, snapshot, whole)
	want(4, snapshot, backend.Range{Begin: whole.Begin, End: counterIn.Str("b")})
	want(5, snapshot, whole)
	err = db.Transact(t.Context(), func(tx backend.Tx) error {
		tx.Set(counterIn.Str("own"), nil)
		pairs, err := tx.GetRange(whole, snapshot).Get()
		if len(pairs) != 6 {
			t.Errorf("%d pairs with its own; want 6", len(pairs))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want(6, snapshot, whole)
}

// Random transactions on two handles, one after the other, see what a map has.
func TestRecentRangesAreAsInAMap(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	dbs := []*DB{openAt(t, path, Relaxed()), openAt(t, path, Relaxed())}
	guesses := 0
	rapid.Check(t, func(rt *rapid.T) {
		want := map[string]string{}
		err := dbs[0].Transact(t.Context(), func(tx backend.Tx) error {
			tx.Clear(backend.NewKey("s").Tree())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"transact": func(rt *rapid.T) {
				db := dbs[rapid.IntRange(0, 1).Draw(rt, "db")]
				if rapid.IntRange(0, 9).Draw(rt, "alone") > 0 {
					forgetOthers(db)
				}
				server := rapid.IntRange(0, 2).Draw(rt, "server")
				writes := rapid.SliceOfN(rapid.IntRange(0, 9), 0, 3).Draw(rt, "writes")
				var seen, after map[string]string
				err := db.Transact(t.Context(), func(tx backend.Tx) error {
					r := backend.NewKey("s", server).Below()
					pairs, err := tx.GetRange(r, backend.RangeOptions{Snapshot: true, Limit: 100}).Get()
					if err != nil {
						return err
					}
					if !isReading(db) {
						guesses++
					}
					seen = map[string]string{}
					for _, kv := range pairs {
						seen[string(kv.Key)] = string(kv.Value)
					}
					after = maps.Clone(want)
					for i, w := range writes {
						writeRandom(tx, after, server, w, i)
					}
					return nil
				})
				if err != nil {
					rt.Fatal(err)
				}
				r := backend.NewKey("s", server).Below()
				is := maps.Clone(want)
				maps.DeleteFunc(is, func(k, _ string) bool { return !r.Contains(backend.Key(k)) })
				if !maps.Equal(seen, is) {
					rt.Fatalf("server %d is %q; want %q", server, seen, is)
				}
				want = after
			},
		})
	})
	if guesses == 0 {
		t.Error("nothing that was remembered was used")
	}
}

// writeRandom does a write that is mostly in the server's own range, in a transaction and in a map.
func writeRandom(tx backend.Tx, rows map[string]string, server, w, i int) {
	key := backend.NewKey("s", (server+w/8)%3, w%4)
	switch {
	case w < 6:
		value := fmt.Sprintf("%0*d", 1+w*20, len(rows)+i)
		tx.Set(key, []byte(value))
		rows[string(key)] = value
	case w < 8:
		tx.Clear(key.Only())
		delete(rows, string(key))
	default:
		tree := backend.NewKey("s", (server+w)%3).Tree()
		tx.Clear(tree)
		maps.DeleteFunc(rows, func(k, _ string) bool { return tree.Contains(backend.Key(k)) })
	}
}
