package postgres

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// longKeys are keys around the length from which on only their heads are in the index, many of them with one head.
func longKeys() (keys []backend.Key) {
	heads := []string{strings.Repeat("a", headBytes), strings.Repeat("a", headBytes-1) + "b", strings.Repeat("m", headBytes)}
	for _, head := range heads {
		for _, rest := range []string{"", "\x00", "\x00\x00", "a", "ab", "b", strings.Repeat("z", 6000)} {
			keys = append(keys, backend.Key(head+rest))
		}
		keys = append(keys, backend.Key(head[:headBytes-1]), backend.Key(head[:1]), backend.Key(head[:headBytes-1]+"zz"))
	}
	slices.SortFunc(keys, backend.Key.Compare)
	return slices.CompactFunc(keys, func(a, b backend.Key) bool { return bytes.Equal(a, b) })
}

// Random transactions over long and short keys, on two handles, see what a map has.
func TestLongKeysAreAsInAMap(t *testing.T) {
	t.Parallel()
	name := pgtest.Name(t)
	dbs := []*DB{openTest(t, name, Relaxed()), openTest(t, name, Relaxed())}
	keys := longKeys()
	rapid.Check(t, func(rt *rapid.T) {
		want := map[string]string{}
		transact(t, dbs[0], func(tx backend.Tx) error {
			tx.Clear(backend.Range{Begin: backend.Key{}, End: backend.Key{0xff}})
			return nil
		})
		key := func() backend.Key { return rapid.SampledFrom(keys).Draw(rt, "key") }
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				db := dbs[rapid.IntRange(0, 1).Draw(rt, "db")]
				var writes []func(tx backend.Tx)
				for range rapid.IntRange(1, 4).Draw(rt, "writes") {
					writes = append(writes, drawWrite(rt, key, want))
				}
				transact(t, db, func(tx backend.Tx) error {
					for _, write := range writes {
						write(tx)
					}
					return nil
				})
			},
			"read": func(rt *rapid.T) {
				r := backend.Range{Begin: key(), End: key()}
				o := backend.RangeOptions{Limit: rapid.IntRange(0, 5).Draw(rt, "limit"), Reverse: rapid.Bool().Draw(rt, "reverse")}
				if rapid.Bool().Draw(rt, "bounded") {
					o.Bytes = rapid.IntRange(1, 9000).Draw(rt, "bytes")
				}
				expectRange(t, rt, dbs[rapid.IntRange(0, 1).Draw(rt, "db")], r, o, want)
			},
		})
	})
}

// drawWrite draws one write, does it to want and returns what does it to a transaction.
func drawWrite(rt *rapid.T, key func() backend.Key, want map[string]string) func(tx backend.Tx) {
	k := key()
	switch rapid.IntRange(0, 4).Draw(rt, "kind") {
	case 0:
		r := backend.Range{Begin: k, End: key()}
		maps.DeleteFunc(want, func(k, _ string) bool { return r.Contains(backend.Key(k)) })
		return func(tx backend.Tx) { tx.Clear(r) }
	case 1:
		delete(want, string(k))
		return func(tx backend.Tx) { tx.Clear(k.Only()) }
	case 2:
		want[string(k)] = string(occ.Sum([]byte(want[string(k)]), -3))
		return func(tx backend.Tx) { tx.Add(k, -3) }
	}
	value := fmt.Sprint(rapid.IntRange(0, 1000).Draw(rt, "value"))
	want[string(k)] = value
	return func(tx backend.Tx) { tx.Set(k, []byte(value)) }
}

func expectRange(t *testing.T, rt *rapid.T, db *DB, r backend.Range, o backend.RangeOptions, want map[string]string) {
	var pairs []backend.KeyValue
	err := db.Read(t.Context(), func(tx backend.ReadTx) (err error) {
		one := tx.Get(r.Begin)
		if pairs, err = tx.GetRange(r, o).Get(); err != nil {
			return err
		}
		value, err := one.Get()
		if is, isThere := want[string(r.Begin)]; isThere != (value != nil) || is != string(value) {
			rt.Fatalf("a key of %d bytes is %q; want %q", len(r.Begin), value, is)
		}
		return err
	})
	if err != nil {
		rt.Fatal(err)
	}
	in := slices.Sorted(maps.Keys(want))
	in = slices.DeleteFunc(in, func(k string) bool { return !r.Contains(backend.Key(k)) })
	if o.Reverse {
		slices.Reverse(in)
	}
	size := 0
	for i, k := range in {
		if size += len(k) + len(want[k]); occ.Reached(o, i+1, size) {
			in = in[:i+1]
			break
		}
	}
	if len(pairs) != len(in) {
		rt.Fatalf("%d pairs of %d bytes to %d, %+v; want %d", len(pairs), len(r.Begin), len(r.End), o, len(in))
	}
	for i, kv := range pairs {
		if string(kv.Key) != in[i] || string(kv.Value) != want[in[i]] {
			rt.Fatalf("pair %d is a key of %d bytes, %q; want one of %d, %q", i, len(kv.Key), kv.Value, len(in[i]), want[in[i]])
		}
	}
}

// What is written while another handle commits conflicts, long keys included, and a watch on one fires.
func TestLongKeysConflictAndAreWatched(t *testing.T) {
	t.Parallel()
	name := pgtest.Name(t)
	db, other := openTest(t, name), openTest(t, name)
	long := backend.Key(strings.Repeat("k", headBytes+500))
	for _, reads := range []func(tx backend.Tx) error{
		func(tx backend.Tx) error { _, err := tx.Get(long).Get(); return err },
		func(tx backend.Tx) error {
			_, err := tx.GetRange(backend.Key("k").Tree(), backend.RangeOptions{}).Get()
			return err
		},
		func(tx backend.Tx) error {
			_, err := tx.GetRange(backend.Range{Begin: long[:headBytes+1], End: long.Only().End}, backend.RangeOptions{}).Get()
			return err
		},
	} {
		runs := 0
		var w backend.Watch
		must(t, db.Read(t.Context(), func(tx backend.ReadTx) error { w = tx.Watch(long); return nil }))
		transact(t, db, func(tx backend.Tx) error {
			if err := reads(tx); err != nil {
				return err
			}
			if runs++; runs == 1 {
				transact(t, other, func(tx backend.Tx) error { tx.Add(long, 1); return nil })
			}
			tx.Set(backend.Key("copy"), nil)
			return nil
		})
		if runs != 2 {
			t.Errorf("it ran %d times", runs)
		}
		<-w.Done()
	}
	if n := pgtest.Exec(t, name, "SELECT count(*) FROM "+pgtest.SchemaOf(name)+".long"); n != "1" {
		t.Errorf("%s long keys", n)
	}
	transact(t, db, func(tx backend.Tx) error { tx.Clear(long.Only()); return nil })
	if n := pgtest.Exec(t, name, "SELECT count(*) FROM "+pgtest.SchemaOf(name)+".kv"); n != "1" {
		t.Errorf("%s rows where the head has to be gone", n)
	}
}
