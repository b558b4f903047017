package dserver_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

func TestTimersAreListed(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		def := desks(noWork)
		s := def.At(db, "a")
		start(t, db, def)
		const timers = 300 // more than a page
		for i := range timers {
			must(t, s.Cast(ctx, Remind{Name: fmt.Sprintf("%03d", i), In: time.Hour}))
		}
		must(t, s.Call(ctx, Forget{"007"}, nil))
		var got []string
		for timer, err := range s.Ref().At(open()).Timers(ctx) {
			must(t, err)
			if left := time.Until(timer.Due); timer.Message.Name != "Jot" || timer.Priority || left < 59*time.Minute || left > time.Hour {
				t.Errorf("%+v", timer)
			}
			got = append(got, timer.Name)
		}
		if len(got) != timers-1 || got[6] != "006" || got[7] != "008" || got[timers-2] != "299" {
			t.Errorf("%d are listed: %v", len(got), got)
		}
	})
}

// A lock tells what it is for, and who holds it, and is found among what is active.
func TestALockTellsWhatItIsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		entered, leave := make(chan int, 1), make(chan struct{})
		def := desks(func(ctx *dserver.LockedContext, _ Desk, _ Pay) (string, error) {
			entered <- ctx.Attempt()
			<-leave
			return "ok", nil
		})
		store := newStore(t, def)
		db := store.Open()
		s := def.At(db, "a")
		must(t, s.Cast(ctx, Pay{How: "card"}))
		stamp, before := waiting(t, s)[0].Stamp, time.Now()
		run(t, dserver.Consumer{}, store.Open(), def)
		<-entered
		<-time.After(time.Minute)
		lock := statusOf(t, s).Lock
		if lock.Message != "Pay" || lock.Stamp != stamp || lock.Attempt != 1 || lock.Since.Before(before) || time.Since(lock.Since) < time.Minute {
			t.Errorf("%+v", lock)
		}
		for p, err := range dserver.Consumers(ctx, db) {
			if must(t, err); p.Process != lock.Process {
				t.Errorf("%s holds it, and %s consumes", lock.Process, p.Process)
			}
		}
		active := 0
		for found, err := range dserver.Active(ctx, db) {
			must(t, err)
			if active++; found.Ref != s.Ref() || !found.Status.Locked {
				t.Errorf("%+v", found)
			}
		}
		close(leave)
		expectLog(t, s, "paid card")
		if lock := statusOf(t, s).Lock; active != 1 || lock != (dserver.Lock{}) {
			t.Errorf("%d were active, and it is locked: %+v", active, lock)
		}
	})
}
