package dserver_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// Damaged rows among what is due, and among the ready marks, stop no other row of their shard. Each is logged once, and
// Check finds it.
func TestDamagedRowsStopNoOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := backendtest.NewStore() // unchecked: it is damaged
		db, far, ctx := store.Open(), store.Open(), context.Background()
		def := desks(noWork)
		d := def.At(far, "a")
		must(t, d.Cast(ctx, Jot{"lost"}, dserver.After(time.Hour)))
		must(t, d.Cast(ctx, Jot{"now"}, dserver.Once("k")))
		tenant := backend.NewKey("s", "desk", "a")
		var shard int64
		must(t, far.Transact(ctx, func(tx backend.Tx) error {
			pairs, err := tx.GetRange(backend.NewKey("t").Tree(), backend.RangeOptions{}).Get()
			if err != nil {
				return err
			}
			elements, err := pairs[0].Key.Elements()
			if err != nil {
				return err
			}
			shard = elements[1].(int64)
			records, err := tx.GetRange(tenant.Str("a").Tree(), backend.RangeOptions{}).Get()
			if err != nil {
				return err
			}
			tx.Set(records[0].Key, []byte{0xff})
			tx.Set(tenant.Str("t", "broken"), []byte{0xff})
			due := backend.NewKey("t", shard)
			tx.Set(due.Str("no time"), nil) // before all times
			tx.Set(due.Int(1).Str("desk", "a").Int(0).Str("broken", "set"), nil)
			tx.Set(due.Int(1).Str("desk", "a").Int(99).Str("of no kind", ""), nil)
			tx.Set(backend.NewKey("r", shard).Str("desk", "0", "m", "no mark"), nil) // before a's
			return nil
		}))
		must(t, d.Cast(ctx, Remind{"kept", 2 * time.Hour}))
		must(t, d.Cast(ctx, Jot{"later"}, dserver.After(90*time.Minute)))

		var log bytes.Buffer
		stop := run(t, dserver.Consumer{Logger: zerolog.New(zerolog.SyncWriter(&log))}, db, def)
		expectLog(t, d, "now")
		<-time.After(3 * time.Hour)
		expectLog(t, d, "now", "later", "timer kept")
		stop()
		pass(t, 22*time.Hour, db, def)
		if n := rows(t, far, "s", "desk", "a", "e"); n != 0 {
			t.Errorf("%d records of keys are left", n)
		}
		if n := strings.Count(log.String(), "a damaged row is left alone"); n != 5 {
			t.Errorf("%d damaged rows were logged:\n%s", n, &log)
		}
		err := dserver.Check(ctx, far, def)
		if !errors.Is(err, backend.ErrCorrupt) {
			t.Fatal(err)
		}
		for _, place := range []string{"no time", "of no kind", "no mark", "desk/a"} {
			if !strings.Contains(err.Error(), place) {
				t.Errorf("nothing about %q in: %v", place, err)
			}
		}
	})
}
