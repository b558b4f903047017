package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// house is the processes of a scenario over safes: one that runs a consumer and starts again when it died, and the
// user's, who sends from it or from one of his own.
type house struct {
	t     *testing.T
	f     *backendtest.Fault
	types *dserver.Definition[Safe]

	mu      sync.Mutex
	current backend.Database // the consumer's
	own     backend.Database // the user's; nil when he is in the consumer's process

	sure  map[string]bool // by server and id: what must have happened, and what must not
	maybe map[string]bool // what the user was told nothing about
}

// eachSafeFault runs a scenario, beside the consumer and apart, in a bubble for each fault.
func eachSafeFault(t *testing.T, toil func(*dserver.LockedContext, Safe, Toil) (string, error), scenario func(h *house)) {
	t.Helper()
	t.Parallel()
	for _, apart := range []bool{false, true} {
		t.Run(map[bool]string{false: "beside", true: "apart"}[apart], func(t *testing.T) {
			backendtest.EachFault(t, func(t *testing.T, f *backendtest.Fault) {
				synctest.Test(t, func(t *testing.T) {
					h := &house{t: t, f: f, types: safes(toil), sure: map[string]bool{}, maybe: map[string]bool{}}
					h.current = f.Open()
					if apart {
						h.own = f.Open()
					}
					ctx, cancel := context.WithCancel(context.Background())
					var wg sync.WaitGroup
					wg.Go(func() { h.serve(ctx) })
					synctest.Wait() // the consumer is there
					scenario(h)
					cancel()
					wg.Wait()
					check(t, f.Open(), h.types)
				})
			})
		})
	}
}

func (h *house) serve(ctx context.Context) {
	for ctx.Err() == nil {
		if err := hasty(ctx, h.consumer(), h.types); err != nil && !errors.Is(err, backend.ErrClosed) {
			h.t.Errorf("%v: Run: %v", h.f, err)
		}
		h.mu.Lock()
		h.current = h.f.Open()
		h.mu.Unlock()
	}
}

func (h *house) consumer() backend.Database {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current
}

func (h *house) at(id string) *dserver.DServer[Safe] {
	if h.own != nil {
		return safe.At(h.own, id)
	}
	return safe.At(h.consumer(), id)
}

// do sends until it is known what became of it, or that this is not known. It reports whether the message took effect
// for sure.
func (h *house) do(what string, fn func(ctx context.Context) error) bool {
	h.t.Helper()
	for {
		ctx, cancel := context.WithTimeout(h.f.Context(), time.Hour)
		err := fn(ctx)
		late := ctx.Err() == context.DeadlineExceeded
		cancel()
		var refused *dserver.Error
		switch {
		case late:
			h.t.Fatalf("%v: nobody answered %s: %v", h.f, what, err)
		case err == nil:
			return true
		case errors.As(err, &refused):
			h.t.Fatalf("%v: %s is refused: %v", h.f, what, err)
		case errors.Is(err, backend.ErrCommitUnknown) || !wasNotSent(err) && isInterrupted(err):
			h.restart()
			return false
		case !isInterrupted(err):
			h.t.Fatalf("%v: %s: %v", h.f, what, err)
		}
		h.restart()
	}
}

// isInterrupted reports errors of a process or context that ended.
func isInterrupted(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, backend.ErrClosed)
}

func (h *house) restart() {
	if h.own != nil && h.f.Crashed() {
		h.own = h.f.Open()
	}
	<-time.After(time.Second) // a consumer that died starts again meanwhile
}

// expect notes what follows from a message: id is seen by the server once, or if the message is in doubt, at most once.
func (h *house) expect(done bool, server string, ids ...string) {
	for _, id := range ids {
		if done {
			h.sure[server+"/"+id] = true
		} else {
			h.maybe[server+"/"+id] = true
		}
	}
}

func (h *house) cast(server string, m any, opts ...dserver.Option) bool {
	h.t.Helper()
	return h.do(fmt.Sprintf("%+v", m), func(ctx context.Context) error { return h.at(server).Cast(ctx, m, opts...) })
}

func (h *house) stow(id string) {
	h.t.Helper()
	h.expect(h.cast("a", Stow{id}), "a", id)
}

// toil calls locked work, whose answer is its id.
func (h *house) toil(id string) {
	h.t.Helper()
	h.expect(h.call("a", Toil{ID: id}, id), "a", id)
}

func (h *house) call(server string, m dserver.Request[string], want string, opts ...dserver.Option) bool {
	h.t.Helper()
	return h.do(fmt.Sprintf("%+v", m), func(ctx context.Context) error {
		got, err := dserver.Call(ctx, h.at(server), m, opts...)
		if err == nil && got != want {
			h.t.Errorf("%v: %+v is answered %q", h.f, m, got)
		}
		return err
	})
}

// seen is what the safes have seen, by server and id.
func (h *house) seen() (all map[string]int, cents int64) {
	h.t.Helper()
	all = map[string]int{}
	db := h.f.Open()
	for ref, err := range dserver.Servers(context.Background(), db, "safe") {
		must(h.t, err)
		s, err := safe.At(db, ref.ID).State(context.Background())
		if err != nil && !errors.Is(err, dserver.ErrNotFound) {
			h.t.Fatal(err)
		}
		cents += s.Cents
		for id, n := range s.Seen {
			all[ref.ID+"/"+id] = n
		}
	}
	return all, cents
}

// settle waits until nothing can happen any more: no server is marked as ready, or waits, as those do that are
// locked, and nothing is due, but the ends of keys, tomorrow.
func (h *house) settle() {
	h.t.Helper()
	db, limit := h.f.Open(), time.Now().Add(time.Hour)
	for busy := true; busy; {
		<-time.After(time.Second)
		must(h.t, db.Read(context.Background(), func(tx backend.ReadTx) error {
			ready := tx.GetRange(backend.NewKey("r").Tree(), backend.RangeOptions{Limit: 1})
			waiting := tx.GetRange(backend.NewKey("w").Tree(), backend.RangeOptions{Limit: 1})
			later, err := tx.GetRange(backend.NewKey("t").Tree(), backend.RangeOptions{}).Get()
			if err != nil {
				return err
			}
			marks, err := ready.Get()
			if err != nil {
				return err
			}
			parked, err := waiting.Get()
			busy = len(marks)+len(parked) > 0 || slices.ContainsFunc(later, func(row backend.KeyValue) bool {
				elements, err := row.Key.Elements()
				return err != nil || time.UnixMilli(elements[2].(int64)).Before(limit)
			})
			return err
		}))
		if time.Now().After(limit) {
			h.t.Fatalf("%v: it never settles", h.f)
		}
	}
}

// verify compares, when nothing can happen any more.
func (h *house) verify() {
	h.t.Helper()
	h.settle()
	got, cents := h.seen()
	for id := range h.sure {
		if got[id] != 1 {
			h.t.Errorf("%v: %s happened %d times", h.f, id, got[id])
		}
	}
	for id, n := range got {
		if n != 1 || !h.sure[id] && !h.maybe[id] {
			h.t.Errorf("%v: %s happened %d times", h.f, id, n)
		}
	}
	if cents != 0 {
		h.t.Errorf("%v: %d cents appeared", h.f, cents)
	}
	if h.t.Failed() {
		h.t.Logf("%v: sure %v, maybe %v, seen %v", h.f, maps.Keys(h.sure), h.maybe, got)
	}
}
