package postgres

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// runsWhile commits a transaction that reads "a", lets meanwhile happen, and writes; it returns how often it ran.
func runsWhile(t *testing.T, db *DB, meanwhile func()) (runs int) {
	t.Helper()
	transact(t, db, func(tx backend.Tx) error {
		value, err := tx.Get(backend.NewKey("a")).Get()
		if runs++; runs == 1 && err == nil {
			meanwhile()
		}
		tx.Set(backend.NewKey("copy"), value)
		return err
	})
	if copied, a := get(t, db, "copy"), get(t, db, "a"); copied != a {
		t.Errorf("committed %q though it was %q then", copied, a)
	}
	return runs
}

// failOver is what a failover may do: the row of the last commit is lost, "a" is what somebody else made of it, and the
// clock has come to its number again.
func failOver(t *testing.T, name string) {
	t.Helper()
	pgtest.Exec(t, name, fmt.Sprintf(`DELETE FROM %[1]s.commits; UPDATE %[1]s.kv SET v = '2' WHERE k = '\x%[2]x'`,
		pgtest.SchemaOf(name), []byte(backend.NewKey("a"))))
}

// What another process commits is a conflict, in whichever way this one finds that it did.
func TestForeignCommitsConflict(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(t *testing.T, db, other *DB, name string)
		runs      int
	}{
		"alone until then": {func(t *testing.T, _, other *DB, _ string) { set(t, other, "a", "2") }, 2},
		"before an own commit": {func(t *testing.T, db, other *DB, _ string) {
			set(t, other, "a", "2")
			set(t, db, "b", "1")
			set(t, db, "c", "1")
		}, 2},
		"of another key": {func(t *testing.T, _, other *DB, _ string) { set(t, other, "b", "2") }, 1},
		"of another key, and own ones": {func(t *testing.T, db, other *DB, _ string) {
			set(t, other, "b", "2")
			set(t, db, "c", "2")
			set(t, other, "b", "3")
		}, 1},
		"before a blind group that leaps over it": {func(t *testing.T, db, other *DB, _ string) {
			set(t, other, "a", "2")
			db.log.SawForeign()
			set(t, db, "b", "1")
		}, 2},
		"before a new session": {func(t *testing.T, db, other *DB, _ string) {
			set(t, other, "a", "2")
			db.session.isGone.Store(true)
		}, 2},
		"that a failover brought with the same number": {func(t *testing.T, _, _ *DB, name string) { failOver(t, name) }, 2},
		"that a failover brought, where others commit": {func(t *testing.T, db, _ *DB, name string) {
			failOver(t, name)
			db.log.SawForeign()
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := pgtest.Name(t)
			db, other := openTest(t, schema), openTest(t, schema)
			set(t, other, "before", "1")
			set(t, db, "a", "1")
			db.log.ForgetForeign()
			if runs := runsWhile(t, db, func() { c.meanwhile(t, db, other, schema) }); runs != c.runs {
				t.Errorf("it ran %d times; want %d", runs, c.runs)
			}
		})
	}
}

// Counters that are written as sums are those that a map has, whoever adds, sets and clears.
func TestCountersAreAsInAMap(t *testing.T) {
	t.Parallel()
	name := pgtest.Name(t)
	dbs := []*DB{openTest(t, name, Relaxed()), openTest(t, name, Relaxed())}
	known := 0
	rapid.Check(t, func(rt *rapid.T) {
		want := map[string][]byte{}
		everything := backend.Range{Begin: backend.Key{}, End: backend.Key{0xff}}
		transact(t, dbs[0], func(tx backend.Tx) error { tx.Clear(everything); return nil })
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				db := dbs[min(1, rapid.IntRange(0, 5).Draw(rt, "db")/5)] // mostly the first, which is alone for a time
				if rapid.IntRange(0, 9).Draw(rt, "alone") > 0 {
					db.log.ForgetForeign()
				}
				key := fmt.Sprint(rapid.IntRange(0, 3).Draw(rt, "key"))
				n := rapid.Int64().Draw(rt, "n")
				var write func(tx backend.Tx)
				switch rapid.IntRange(0, 9).Draw(rt, "kind") {
				case 0:
					want[key] = []byte("odd")
					write = func(tx backend.Tx) { tx.Set(backend.Key(key), want[key]) }
				case 1:
					delete(want, key)
					write = func(tx backend.Tx) { tx.Clear(backend.Key(key).Only()) }
				case 2:
					clear(want)
					write = func(tx backend.Tx) { tx.Clear(everything) }
				default:
					want[key] = occ.Sum(want[key], n)
					write = func(tx backend.Tx) { tx.Add(backend.Key(key), n) }
				}
				transact(t, db, func(tx backend.Tx) error { write(tx); return nil })
				known += len(db.writer.sums.known)
			},
			"": func(rt *rapid.T) {
				got := map[string][]byte{}
				err := dbs[0].Read(t.Context(), func(tx backend.ReadTx) error {
					pairs, err := tx.GetRange(everything, backend.RangeOptions{}).Get()
					for _, kv := range pairs {
						got[string(kv.Key)] = kv.Value
					}
					return err
				})
				if err != nil || !maps.EqualFunc(got, want, func(a, b []byte) bool { return string(a) == string(b) }) {
					rt.Fatalf("%x; want %x: %v", got, want, err)
				}
			},
		})
	})
	if known == 0 {
		t.Error("no counter was known")
	}
}

// A process that stands still between the steps of a commit holds up the others for a few seconds, not for ever.
func TestAProcessThatStandsStillInACommitIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	const stepMax = time.Second
	db := openTest(t, pgtest.Name(t), func(o *options) { o.stepMax = stepMax })
	c, err := db.connect(t.Context())
	must(t, err)
	defer c.close()
	must(t, c.script(t.Context(), "BEGIN; "+db.sql.bound+"; "+db.sql.lock))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	began := time.Now()
	if _, _, err := increment(ctx, db); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < stepMax/2 {
		t.Errorf("the lock was not held: %v", took)
	}
}
