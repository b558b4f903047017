package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// meter counts what is read, and lets a snapshot read only so many rows.
type meter struct {
	backend.Database
	snapshots, ranges, mostRows, lives int
}

func (m *meter) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	m.snapshots++
	return m.Database.Read(ctx, func(tx backend.ReadTx) error { return fn(&metered{tx, m, m.lives}) })
}

type metered struct {
	backend.ReadTx
	m    *meter
	left int
}

func (r *metered) GetRange(of backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	pairs, err := r.ReadTx.GetRange(of, o).Get()
	if r.left -= len(pairs); r.left < 0 {
		return backend.Ready[[]backend.KeyValue](nil, backend.ErrTooOld)
	}
	r.m.ranges++
	r.m.mostRows = max(r.m.mostRows, len(pairs))
	return backend.Ready(pairs, err)
}

// furnish gives a server a delayed message, a key and a timer, many times.
func furnish(t *testing.T, db backend.Database, id string, times int) {
	t.Helper()
	s := journals.At(db, id)
	for i := range times {
		must(t, s.Cast(t.Context(), Write{"x"}, dserver.After(time.Hour), dserver.Once(fmt.Sprint(i))))
	}
	must(t, db.Transact(t.Context(), func(tx backend.Tx) error {
		for i := range times {
			tx.Set(backend.NewKey("s", "journal", id, "t", fmt.Sprint(i)), []byte{0xa1, 0x62, 'a', 't', 1})
		}
		return nil
	}))
}

// The reads of Check follow the number of servers: many are read at once, and none reads what all of its shard have due.
func TestCheckReadsManyServersAtOnce(t *testing.T) {
	db := &meter{Database: backendtest.NewModel(), lives: 2000}
	count := func(from, to int) int {
		for i := from; i < to; i++ {
			furnish(t, db, fmt.Sprint(i), 2)
		}
		db.ranges = 0
		check(t, db, journals)
		return db.ranges
	}
	some := count(0, 500)
	if all := count(500, 1500); all > 3*some || all > 150 {
		t.Errorf("%d range reads of 500 servers, %d of 1500", some, all)
	}
	if db.mostRows > 2000 {
		t.Errorf("%d rows were read at once", db.mostRows)
	}
}

// However much a server has, it is checked in pages, also when they are more than a snapshot may read.
func TestCheckOfALargeServerIsInPages(t *testing.T) {
	t.Parallel()
	model := backendtest.NewModel()
	db := &meter{Database: model, lives: 4000}
	s, ctx := journals.At(db, "a"), context.Background()
	furnish(t, db, "a", 3000)
	rejects := make([]any, 500)
	for i := range rejects {
		rejects[i] = Reject{"x"}
	}
	const rounds = 10
	for range rounds {
		must(t, s.CastAll(ctx, rejects))
	}
	stop := run(t, dserver.Consumer{}, model, journals)
	eventually(t, "all are set aside", func() bool { return statusOf(t, s).DeadLetters == int64(rounds*len(rejects)) })
	stop()
	for range rounds {
		must(t, s.CastAll(ctx, rejects))
	}
	for _, lives := range []int{100_000, 4000} {
		db.lives, db.mostRows = lives, 0
		check(t, db, journals)
		if db.mostRows > 2000 {
			t.Errorf("%d rows were read at once", db.mostRows)
		}
	}
	must(t, model.Transact(ctx, func(tx backend.Tx) error { // what is due of the last ones
		tx.Clear(backend.NewKey("t").Below())
		return nil
	}))
	err := dserver.Check(ctx, db, journals)
	if !errors.Is(err, backend.ErrCorrupt) || !strings.Contains(err.Error(), "is not in the index") {
		t.Errorf("Check: %v", err)
	}
}
