package dserver_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// What waits for a type is counted, and how old it is is told, whatever else the database holds.
func TestBacklogIsWhatWaits(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		if b, err := dserver.BacklogOf(ctx, db, "journal"); err != nil || b != (dserver.Backlog{}) {
			t.Errorf("of nothing: %+v, %v", b, err)
		}
		before := time.Now().Truncate(time.Millisecond)
		for i := range 20 {
			s := journals.At(db, fmt.Sprint(i))
			must(t, s.CastAll(ctx, []any{Write{"1"}, Write{"2"}, Write{"3"}}))
		}
		must(t, journals.At(db, "0").Cast(ctx, Write{"ahead"}, dserver.Priority()))
		must(t, journals.At(db, "large").Cast(ctx, Write{strings.Repeat("l", 200_000)}))
		must(t, journals.At(db, "later").Cast(ctx, Write{"due"}, dserver.After(time.Millisecond)))
		must(t, journals.At(db, "later").Cast(ctx, Write{"not due"}, dserver.After(time.Hour), dserver.Once("key")))
		must(t, counters.At(db, "other").Cast(ctx, Increment{By: 1}))
		<-time.After(5 * time.Millisecond)
		b, err := dserver.BacklogOf(ctx, dserver.Intercept(db), "journal")
		must(t, err)
		if b.Servers != 21 || b.Queued != 62 || b.Overdue != 1 || b.More || b.Oldest.Before(before) || b.Oldest.After(time.Now()) {
			t.Errorf("%+v", b)
		}
	})
}

// A look at a long backlog is bounded, and says so.
func TestLookAtALongBacklogIsBounded(t *testing.T) {
	db, ctx := newStore(t, journals).Open(), within(t)
	for i := range 1500 {
		must(t, journals.At(db, fmt.Sprint(i)).Cast(ctx, Write{"l"}))
	}
	b, err := dserver.BacklogOf(ctx, db, "journal")
	if must(t, err); b.Servers != 8*128 || b.Queued != 8*128 || !b.More {
		t.Errorf("%+v", b)
	}
}

func TestLoadIsWhatTheConsumersOfAProcessHave(t *testing.T) {
	db, ctx := newStore(t, journals).Open(), within(t)
	if l := dserver.LoadOf(db); l.Types != nil || l.Watches != 0 || l.CacheBytes != 0 {
		t.Errorf("without a consumer: %+v", l)
	}
	working, goOn := make(chan struct{}), make(chan struct{})
	def := journals.With(dserver.HandleLocked(
		func(*dserver.LockedContext, Journal, Guarded) (int, error) { close(working); <-goOn; return 0, nil },
		func(*dserver.Context, *Journal, Guarded, int) error { return nil }))
	before := time.Now()
	start(t, dserver.Intercept(db), def)
	must(t, def.At(db, "a").Call(ctx, Append{Line: "l"}, nil))
	must(t, def.At(db, "b").Cast(ctx, Guarded{"l"}))
	<-working
	eventually(t, "the load is told", func() bool {
		l := dserver.LoadOf(dserver.Intercept(db))
		return fmt.Sprint(l.Types) == "[journal]" && l.Work == 1 && l.OldestLock.After(before) && l.Servers == 2 &&
			l.CacheBytes > 0 && l.Watches == 2*8+1 && l.Turns == 0
	})
	close(goOn)
	eventually(t, "the lock is gone", func() bool { l := dserver.LoadOf(db); return l.Work == 0 && l.OldestLock.IsZero() })
}

// How long queues are, and what this process does, is what metrics are made of.
func ExampleBacklogOf() {
	db, remove := temporary()
	defer remove()
	ctx := context.Background()
	for _, id := range []string{"mayor", "treasurer"} {
		if err := tallies.At(db, id).Cast(ctx, Vote{}); err != nil {
			fmt.Println(err)
		}
	}
	b, err := dserver.BacklogOf(ctx, db, "tally")
	fmt.Println(b.Servers, b.Queued, b.Overdue, err, len(dserver.LoadOf(db).Types))
	// Output: 2 2 0 <nil> 0
}
