package dserver_test

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// troubled is the ids of the servers in trouble.
func troubled(t testing.TB, db backend.Database) (ids []string) {
	t.Helper()
	for found, err := range dserver.Troubles(within(t), db) {
		must(t, err)
		if got := statusOf(t, found.Ref.At(db)); !reflect.DeepEqual(got, found.Status) {
			t.Errorf("%v is listed with %+v, and is %+v", found.Ref, found.Status, got)
		}
		ids = append(ids, found.Ref.ID)
	}
	slices.Sort(ids)
	var byType []string
	for typ, err := range dserver.Types(within(t), db) {
		must(t, err)
		for found, err := range dserver.Troubles(within(t), db, typ) {
			must(t, err)
			if byType = append(byType, found.Ref.ID); found.Ref.Type != typ {
				t.Errorf("%v is listed among those of type %s", found.Ref, typ)
			}
		}
	}
	if slices.Sort(byType); !slices.Equal(ids, byType) {
		t.Errorf("in trouble are %q, and by their types %q", ids, byType)
	}
	return ids
}

func TestServersInTroubleAreListed(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx, db, h := within(t), open(), newHost("inn")
		def := h.stays(dserver.Settings[Stay]{MaxAttempts: 2, Halt: true}, dserver.HandleCast(func(_ *dserver.Context, _ *Stay, m Spurned) error {
			return fmt.Errorf("no: %s", m.Why)
		}))
		stop := run(t, dserver.Consumer{Logger: zerolog.Nop()}, open(), def)
		for i := range 300 { // more than a page, without trouble
			must(t, def.At(db, fmt.Sprint("fine", i)).Cast(ctx, Sojourn{"1"}))
		}
		h.goOn <- struct{}{}
		h.goOn <- struct{}{}
		must(t, def.At(db, "halted").Cast(ctx, Stumble{"1"}))
		must(t, def.At(db, "letter").Cast(ctx, Spurned{"why"}))
		must(t, def.At(db, "unlisted").Pin(ctx, "gpu"))
		must(t, def.At(db, "unlisted").Cast(ctx, Sojourn{"1"}))
		must(t, stay.At(db, "unhandled").Cast(ctx, Unheard{}))
		eventually(t, "all is in trouble", func() bool {
			return statusOf(t, def.At(db, "halted")).Halted && statusOf(t, def.At(db, "letter")).DeadLetters == 1 &&
				statusOf(t, def.At(db, "unlisted")).Unlisted && statusOf(t, stay.At(db, "unhandled")).Unhandled != ""
		})
		eventually(t, "all else is done", func() bool { return statusOf(t, def.At(db, "fine299")).Queued == 0 })
		eventually(t, "no mark leads to who has nothing to do", func() bool {
			return !slices.ContainsFunc(slices.Collect(keysBelow(t, db, "r")), func(key backend.Key) bool {
				return bytes.Contains(key, []byte("letter")) || bytes.Contains(key, []byte("halted"))
			})
		})
		for range 2 { // to look changes nothing
			if got, want := troubled(t, db), []string{"halted", "letter", "unhandled", "unlisted"}; !slices.Equal(got, want) {
				t.Errorf("in trouble are %q, want %q", got, want)
			}
		}
		must(t, journals.At(db, "paused").Pause(ctx)) // of another type
		if got := troubled(t, db); !slices.Contains(got, "paused") || len(got) != 5 {
			t.Errorf("in trouble are %q", got)
		}
		must(t, journals.At(db, "paused").Kill(ctx))
		stop()

		must(t, def.At(db, "unlisted").Kill(ctx))
		must(t, stay.At(db, "unhandled").Kill(ctx))
		must(t, def.At(db, "halted").Kill(ctx))
		for d, err := range def.At(db, "letter").DeadLetters(ctx) {
			must(t, err)
			must(t, def.At(db, "letter").Discard(ctx, d))
		}
		if got := troubled(t, db); len(got) != 0 {
			t.Errorf("in trouble are %q", got)
		}
		if n := len(slices.Collect(keysBelow(t, db, "x"))); n != 0 {
			t.Errorf("%d rows are left in the index", n)
		}
	})
}

type (
	Spurned struct{ Why string }
	Unheard struct{}
)

// The index is tidied up beside new trouble, which is never lost by that.
func TestTroubleThatComesWhileItsIndexIsTidiedUpIsFound(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx, db, other := within(t), open(), open()
		run(t, dserver.Consumer{Logger: zerolog.Nop()}, open(), journals)
		s := journals.At(db, "a")
		limit := time.After(500 * time.Millisecond)
		for over := false; !over; {
			must(t, s.Cast(ctx, Reject{"1"}))
			tidied := make(chan error, 1)
			go func() { tidied <- tidy(ctx, other) }()
			eventually(t, "it is refused", func() bool { return statusOf(t, s).DeadLetters > 0 })
			must(t, <-tidied)
			if got := troubled(t, db); !slices.Equal(got, []string{"a"}) {
				t.Fatalf("in trouble are %q", got)
			}
			for d, err := range s.DeadLetters(ctx) {
				must(t, err)
				must(t, s.Discard(ctx, d))
			}
			select {
			case <-limit:
				over = true
			default:
			}
		}
	})
}

func tidy(ctx context.Context, db backend.Database) error {
	for _, err := range dserver.Troubles(ctx, db) {
		if err != nil {
			return err
		}
	}
	return nil
}

// A lock whose first attempt takes longer than one may is trouble: here nobody is there to go on with it.
func TestLockThatIsHeldForTooLongIsTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered := make(chan struct{}, 1)
		def := desks(func(ctx *dserver.LockedContext, _ Desk, _ Pay) (string, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return "", ctx.Err()
		}).With(dserver.Settings[Desk]{WorkLimit: time.Hour})
		db := newStore(t, def).Open()
		stop := run(t, dserver.Consumer{}, db, def)
		must(t, def.At(db, "a").Cast(context.Background(), Pay{How: "card"}))
		<-entered
		stop()
		<-time.After(59 * time.Minute)
		if ids := troubled(t, db); ids != nil {
			t.Errorf("%q are in trouble", ids)
		}
		<-time.After(2 * time.Minute)
		if ids := troubled(t, db); !slices.Equal(ids, []string{"a"}) {
			t.Errorf("%q are in trouble", ids)
		}
	})
}
