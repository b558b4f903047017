package dserver_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// furnished is a store with something of everything that the library writes.
func furnished(t *testing.T) backend.Database {
	t.Helper()
	store := backendtest.NewStore()
	db := store.Open()
	types := journals.With(
		dserver.Settings[Journal]{MaxAttempts: 2},
		dserver.HandleCast(func(ctx *dserver.Context, _ *Journal, _ Mark) error {
			ctx.SetTimer("timer", time.Hour, Write{"late"})
			return nil
		}))
	s := types.At(db, "a")
	stop := run(t, dserver.Consumer{}, db, types)
	ctx := within(t)
	must(t, s.Cast(ctx, Write{"state"}))
	must(t, s.Cast(ctx, Mark{}))
	must(t, s.Cast(ctx, Reject{"dead letter"}))
	must(t, s.Cast(ctx, Write{"once"}, dserver.Once("key")))
	must(t, s.Cast(ctx, Write{"later"}, dserver.After(time.Hour)))
	must(t, journals.At(store.Open(), "a").Call(ctx, Append{Line: "mail"}, nil))
	expectLines(t, lines(t, s), "state", "once", "mail")
	stop()
	must(t, s.CastAll(ctx, []any{Write{"queued"}, Write{"queued"}}))
	check(t, db, journals)
	return db
}

// Each invariant that is broken by hand is found, with its place.
func TestCheckFindsWhatIsDamaged(t *testing.T) {
	server := backend.NewKey("s", "journal", "a")
	first := func(tx backend.Tx, r backend.Range) backend.KeyValue {
		pairs, err := tx.GetRange(r, backend.RangeOptions{Limit: 1}).Get()
		must(t, err)
		if len(pairs) == 0 {
			t.Fatalf("nothing is in %v", r)
		}
		return pairs[0]
	}
	clearFirst := func(prefix backend.Key) func(tx backend.Tx) {
		return func(tx backend.Tx) { tx.Clear(first(tx, prefix.Below()).Key.Only()) }
	}
	setFirst := func(prefix backend.Key, value string) func(tx backend.Tx) {
		return func(tx backend.Tx) { tx.Set(first(tx, prefix.Below()).Key, []byte(value)) }
	}
	set := func(key backend.Key, value string) func(tx backend.Tx) {
		return func(tx backend.Tx) { tx.Set(key, []byte(value)) }
	}
	for _, c := range []struct {
		name   string
		damage func(tx backend.Tx)
		says   string
	}{
		{"a ready mark is missing", func(tx backend.Tx) { tx.Clear(backend.NewKey("r").Below()) }, "2 messages and no ready mark"},
		{"a row of a waiting server in the wrong shard", set(backend.NewKey("w", int64(7), "journal", "a"), ""), "is no row of a server that waits"},
		{"a row of a waiting server of nothing", set(backend.NewKey("w", int64(7), "journal"), ""), "is no row of a server that waits"},
		{"a ready mark in the wrong shard", set(backend.NewKey("r", int64(7), "journal", "a", "m"), ""), "is no ready mark"},
		{"a ready mark of nothing", set(backend.NewKey("r", int64(7), "journal"), ""), "is no ready mark"},
		{"a message is missing", clearFirst(server.Str("q").Int(1)), "1 items, and counters that say 2"},
		{"a message is half there", setFirst(server.Str("q").Int(1), "\xdaDSCH\x00\x00\x00\x09"), "not whole"},
		{"a strange key in the queue", set(server.Str("q").Int(9), ""), "is not the queue's"},
		{"a dead letter is missing", clearFirst(server.Str("d")), "0 dead letters, and a counter that says 1"},
		{"a dead letter cannot be read", setFirst(server.Str("d"), "\xff"), "damaged"},
		{"a strange row among the dead letters", set(server.Str("d", "x"), ""), "is no dead letter"},
		{"a version is missing", func(tx backend.Tx) { tx.Clear(server.Str("h").Only()) }, "without a version"},
		{"a version without a creation", func(tx backend.Tx) { tx.Clear(server.Str("h", "m").Only()) }, "created at 0"},
		{"a strange record", set(server.Str("h", "z"), ""), "belongs to nothing"},
		{
			"attempts of a message that is gone",
			set(server.Str("h", "a").Int(1), "\xa2\x65stamp\x4ctwelve bytes\x65count\x01"),
			"which does not wait",
		},
		{"a state that cannot be decoded", setFirst(server.Str("s"), "\xff"), "decode the state of a server of type \"journal\""},
		{"keys of a server that belong to nothing", set(server.Str("z"), ""), `keys below "z"`},
		{"keys that belong to nothing", set(backend.NewKey("z", "z"), ""), "belong to nothing"},
		{"a bell that is none", set(backend.NewKey("b", int64(1)), "x"), "is no bell"},
		{"a bell of a shard that is none", set(backend.NewKey("b", int64(128)), "12345678"), "is no bell"},
		{"a mailbox without its process", func(tx backend.Tx) {
			tx.Set(backend.NewKey("p", "nobody", "m", int64(1)).Stamp(backend.NewVersionstamp(1, 0)), nil)
		}, "without a record"},
		{"a process that cannot be read", set(backend.NewKey("p", "somebody", "r"), "\xff"), "somebody"},
		{"a letter that cannot be read", func(tx backend.Tx) {
			tx.Set(backend.NewKey("p", "somebody", "r"), []byte{0xa0})
			tx.Set(backend.NewKey("p", "somebody", "m", int64(1)).Stamp(backend.NewVersionstamp(1, 0)), []byte{0xff})
		}, "somebody"},
		{"what is due is not in the index", func(tx backend.Tx) { tx.Clear(backend.NewKey("t").Below()) }, "not in the index"},
		{"a strange row in the index", set(backend.NewKey("t", int64(1), "x"), ""), "index of what is due"},
		{"a row in the index in the wrong shard", set(backend.NewKey("t", int64(7), int64(1), "journal", "a", 0, "x", "set"), ""), "index of what is due"},
		{"a timer that cannot be read", setFirst(server.Str("t"), "\xff"), "damaged"},
		{"a locked message without a lock", set(server.Str("w"), "x"), "lock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := furnished(t)
			must(t, db.Transact(t.Context(), func(tx backend.Tx) error { c.damage(tx); return nil }))
			err := dserver.Check(t.Context(), db, journals)
			if !errors.Is(err, backend.ErrCorrupt) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

// Much damage is reported up to a bound, and an error of the store is not taken for damage.
func TestCheckIsBoundedAndHonest(t *testing.T) {
	db := furnished(t)
	must(t, db.Transact(t.Context(), func(tx backend.Tx) error {
		for i := range 1000 {
			tx.Set(backend.NewKey("r", i), nil)
		}
		return nil
	}))
	if err := dserver.Check(t.Context(), db); err == nil || strings.Count(err.Error(), "is no ready mark") != 100 {
		t.Errorf("%v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := dserver.Check(gone, db); !errors.Is(err, context.Canceled) || errors.Is(err, backend.ErrCorrupt) {
		t.Errorf("with a context that ended: %v", err)
	}
	must(t, db.Close())
	if err := dserver.Check(t.Context(), db); !errors.Is(err, backend.ErrClosed) || errors.Is(err, backend.ErrCorrupt) {
		t.Errorf("of a closed database: %v", err)
	}
}

// Check may run beside an application that is busy.
func TestCheckFindsNothingBesideABusyApplication(t *testing.T) {
	store := newStore(t, journals)
	db := store.Open()
	start(t, db, journals)
	start(t, store.Open(), journals)
	ctx, cancel := context.WithCancel(within(t))
	var busy sync.WaitGroup
	var calls atomic.Int64
	for _, db := range []backend.Database{db, store.Open()} {
		for _, m := range []any{Write{"x"}, Reject{"x"}, Append{Line: "x"}} {
			busy.Go(func() {
				for ctx.Err() == nil {
					if err := journals.At(db, "a").Call(ctx, m, nil); err != nil && ctx.Err() == nil && !errors.Is(err, errDenied) {
						t.Error(err)
					}
					calls.Add(1)
				}
			})
		}
	}
	for checks := 0; ctx.Err() == nil && (checks < 20 || calls.Load() < 300); checks++ {
		check(t, store.Open(), journals)
	}
	if err := ctx.Err(); err != nil {
		t.Errorf("after %d calls: %v", calls.Load(), err)
	}
	cancel()
	busy.Wait()
}
