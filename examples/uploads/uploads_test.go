package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
	"github.com/dserver-go/dserver/internal/dbtest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within bounds the bubble's time, so that what waits for ever fails.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Hour)
	t.Cleanup(cancel)
	return ctx
}

// 200 uploads of up to a minute, of which every tenth crashes: never more than 5 at a time, and all come through.
func TestNeverOneTooManyAndTheSlotsOfTheCrashedComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := dservertest.Start(t, Limiters)
		ctx := within(t)
		limiter := Limiters.At(db, "uploads")
		const slots, uploads = 5, 200
		must(t, limiter.Cast(t.Context(), SetSlots{slots}))
		var all sync.WaitGroup
		var now, most, done atomic.Int64
		for i := range uploads {
			all.Go(func() {
				name := fmt.Sprint("upload ", i)
				if i%10 == 0 {
					_, err := dserver.Call(ctx, limiter, Acquire{Upload: name})
					if err != nil {
						t.Error(err)
					}
					raise(&most, now.Add(1)) // it works for a while, and dies
					time.AfterFunc(lease-time.Millisecond, func() { now.Add(-1) })
					return
				}
				err := Upload(ctx, limiter, name, func(ctx context.Context) error {
					raise(&most, now.Add(1))
					defer now.Add(-1)
					select {
					case <-time.After(time.Duration(i*7%60) * time.Second):
						done.Add(1)
					case <-ctx.Done():
					}
					return ctx.Err()
				})
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		all.Wait()
		if most.Load() != slots || done.Load() != uploads-uploads/10 {
			t.Errorf("%d uploads were done, %d at a time", done.Load(), most.Load())
		}
		<-time.After(2 * lease)
		s, err := limiter.State(t.Context())
		if err != nil || len(s.Holders)+len(s.Waiting) != 0 {
			t.Errorf("at the end %v hold slots and %v wait, %v", s.Holders, s.Waiting, err)
		}
	})
}

// An upload that is cut off from its limiter stops before somebody else gets its slot.
func TestAnUploadThatCannotRenewStopsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := dservertest.ByHand(t, Limiters)
		limiter := Limiters.At(h.DB, "uploads")
		must(t, limiter.Cast(t.Context(), SetSlots{1}))
		var working atomic.Bool
		ended := make(chan error)
		go func() {
			ended <- Upload(within(t), limiter, "first", func(ctx context.Context) error {
				working.Store(true)
				defer working.Store(false)
				<-ctx.Done()
				return ctx.Err()
			})
		}()
		for range 10 { // as long as messages are handled, it goes on
			synctest.Wait()
			h.Drain()
			synctest.Wait()
			if !working.Load() {
				t.Fatal("it stopped, although nothing was wrong")
			}
			<-time.After(lease / 2)
		}
		<-time.After(lease) // nobody handles anything
		synctest.Wait()
		if working.Load() {
			t.Error("it still works, although its lease is over")
		}
		if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ended with %v", err)
		}
		h.Drain()
	})
}

// One slot. Ada crashes with it, or while she waits; Bob comes through in any case, and they never have it both.
func TestEachOrderOfTwoUploads(t *testing.T) {
	dservertest.EachOrder(t, func(t *testing.T, o *dservertest.Order) {
		db := o.Start(Limiters)
		limiter := Limiters.At(db, "uploads")
		must(t, limiter.Cast(t.Context(), SetSlots{1}))
		o.Drain()
		o.Go("ada", func(ctx context.Context) error {
			_, err := dserver.Call(ctx, limiter, Acquire{Upload: "ada"})
			return err
		})
		o.Go("bob", func(ctx context.Context) error {
			if _, err := dserver.Call(ctx, limiter, Acquire{Upload: "bob"}); err != nil {
				return err
			}
			return limiter.Cast(ctx, Release{"bob"})
		})
		o.Go("guard", func(ctx context.Context) error {
			s, err := limiter.State(ctx)
			if err == nil && len(s.Holders) > 1 {
				err = fmt.Errorf("%v have the one slot", s.Holders)
			}
			return err
		})
		o.Run()
		s, err := limiter.State(t.Context())
		if err != nil || len(s.Holders)+len(s.Waiting) != 0 {
			t.Errorf("at the end %v hold slots and %v wait, %v", s.Holders, s.Waiting, err)
		}
	})
}

func TestAcquireAgainTakesOneSlot(t *testing.T) {
	h := dservertest.ByHand(t, Limiters)
	limiter := Limiters.At(h.DB, "uploads")
	for range 2 {
		must(t, limiter.Cast(t.Context(), Acquire{Upload: "ada"}))
	}
	h.Drain()
	if s, err := limiter.State(t.Context()); err != nil || len(s.Waiting) != 1 {
		t.Errorf("%v wait, %v", s.Waiting, err)
	}
}

func TestTheProgramGetsBackTheSlotsOfTheCrashed(t *testing.T) {
	var out bytes.Buffer
	must(t, run(t.Context(), []string{"-db", dbtest.Name(t), "-uploads", "50", "-longest", "150ms"}, &out))
	var seconds float64
	var most int
	_, err := fmt.Sscanf(out.String(), "48 uploads done in %f s, %d at a time; 2 crashed", &seconds, &most)
	if err != nil || most < 1 || most > 3 {
		t.Errorf("it printed %q: %v", &out, err)
	}
}
