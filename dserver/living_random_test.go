package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// Any number of consumers, fast and slow, come, end and are killed, a few times each: no message that breaks nothing is
// set aside, and each is counted once.
func TestHealthyMessagesAreNeverSetAside(t *testing.T) {
	t.Parallel()
	tries := 0
	rapid.Check(t, func(r *rapid.T) {
		if tries++; tries > 10 && !isLong() {
			return // each takes a while
		}
		consumers := rapid.IntRange(1, 12).Draw(r, "consumers")
		messages := rapid.IntRange(1, 15).Draw(r, "messages")
		takes := time.Duration(rapid.SampledFrom([]int{1, 50, 700, 2500}).Draw(r, "handler's ms")) * time.Millisecond
		kills := rapid.SliceOfN(rapid.IntRange(0, 20_000), 0, 3).Draw(r, "kills at ms")
		var text string
		synctest.Test(t, func(t *testing.T) {
			text = livesAndDeaths(t, consumers, messages, takes, kills)
		})
		if text != "" {
			r.Fatal(text)
		}
	})
}

func livesAndDeaths(t *testing.T, consumers, messages int, takes time.Duration, kills []int) string {
	types := sleepy(takes)
	store := backendtest.NewStore()
	a := types.At(store.Open(), "a")
	sendDrowsy(t, a, messages)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, consumers)
	for i := range consumers {
		life := time.Duration(0)
		if i < len(kills) {
			life = time.Duration(kills[i]) * time.Millisecond
		}
		go func() { ended <- liveTwice(ctx, store, types, life) }()
	}
	<-time.After(time.Duration(messages)*takes + 5*time.Minute)
	stop()
	for range consumers {
		if err := <-ended; err != nil {
			return err.Error()
		}
	}
	s, err := a.State(t.Context())
	if err != nil || s.Count != int64(messages) {
		return fmt.Sprintf("%d of %d were handled, %v", s.Count, messages, err)
	}
	if dead := letters(t, a); len(dead) > 0 {
		return fmt.Sprintf("%+v", dead)
	}
	if err := dserver.Check(t.Context(), store.Open(), types); err != nil {
		return err.Error()
	}
	return ""
}

// liveTwice runs a consumer that is killed when it has lived for so long, unless that is 0, and then another one.
func liveTwice(ctx context.Context, store *backendtest.Store, types dserver.Type, life time.Duration) error {
	if life > 0 {
		db := store.Open()
		death := time.AfterFunc(life, func() { _ = db.Close() })
		err := hasty(ctx, db, types)
		death.Stop()
		if err != nil && !errors.Is(err, backend.ErrClosed) {
			return err
		}
	}
	return dserver.Run(ctx, store.Open(), types)
}

// What stops a whole group of consumers for long, in the middle of one message, is no death of that message's making: the
// one who is left makes an attempt himself.
func TestConsumersThatAreFrozenTogetherSetNothingAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		stuck := counters.With(dserver.HandleCast(func(_ *dserver.Context, _ *Counter, _ Drowse) error {
			<-hang
			return nil
		}))
		types := sleepy(0)
		store := newStore(t, types)
		a := types.At(store.Open(), "a")
		sendDrowsy(t, a, 3)
		ended := make(chan error, 8)
		var dbs []*frozenDB
		for range cap(ended) {
			db := &frozenDB{Database: store.Open()}
			dbs = append(dbs, db)
			go func() { ended <- dserver.Run(t.Context(), db, stuck) }()
		}
		<-time.After(time.Second)
		for _, db := range dbs {
			db.stop()
		}
		run(t, dserver.Consumer{}, store.Open(), types)
		<-time.After(2 * time.Minute)
		expectDrowsed(t, a, 3)
		close(hang)
		for _, db := range dbs {
			_ = db.Database.Close()
			db.goOn()
		}
		for range dbs {
			<-ended
		}
	})
}

// Each process dies of the message within a second, and another one is started: it ends, and nothing else is lost.
func TestACrashLoopEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, sleepy(0))
		a := dserver.Define[Counter]("counter").At(store.Open(), "a")
		must(t, a.CastAll(t.Context(), []any{Drowse{1}, Die{}, Drowse{1}}))
		deaths := 0
		for statusOf(t, a).Queued > 0 && deaths < 50 {
			db := store.Open()
			types := sleepy(0).With(dserver.HandleCast(func(ctx *dserver.Context, _ *Counter, _ Die) error {
				go db.Close()
				<-ctx.Context().Done()
				return errors.New("dead")
			}))
			ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
			if err := dserver.Run(ctx, db, types); errors.Is(err, backend.ErrClosed) {
				deaths++
			}
			stop()
		}
		if deaths < 5 || deaths > 7 {
			t.Errorf("%d deaths", deaths)
		}
		s, err := a.State(t.Context())
		if err != nil || s.Count != 2 {
			t.Errorf("%+v, %v", s, err)
		}
		if dead := letters(t, a); len(dead) != 1 || dead[0].Message.Name != "Die" || dead[0].Attempts != 5 {
			t.Errorf("%+v", dead)
		}
	})
}
