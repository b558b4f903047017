package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Each fault at each commit of what only a durable server has. The scenarios end in verify: what was acknowledged
// happened once, what nobody was told about at most once, and nothing else.

// A turn's sends happen with the turn or not at all: to others, to itself, later, ahead, and twice with one key.
func TestEachFaultOverSendsOfATurn(t *testing.T) {
	eachSafeFault(t, easyToil, func(h *house) {
		for i, m := range []Remit{
			{To: "b", Cents: 5}, {To: "a", Cents: 7}, {To: "c", Cents: 1, After: 20 * time.Second}, {To: "b", Cents: 2, Urgent: true},
		} {
			m.ID = fmt.Sprint("pass ", i)
			done := h.cast("a", m)
			h.expect(done, "a", m.ID)
			h.expect(done, m.To, m.ID+" passed")
		}
		h.verifyPairs("a/pass 0", "b/pass 0 passed", "a/pass 1", "a/pass 1 passed", "a/pass 2", "c/pass 2 passed", "a/pass 3", "b/pass 3 passed")
	})
}

func TestEachFaultOverTimers(t *testing.T) {
	eachSafeFault(t, easyToil, func(h *house) {
		set := h.cast("a", Wind{"kept", "kept", 20 * time.Second})
		h.expect(set, "a", "kept", "kept rang")
		moves := h.cast("a", Wind{"moves", "moved", 20 * time.Second})
		h.expect(moves, "a", "moves")
		moved := h.cast("a", Wind{"moved", "moved", 40 * time.Second})
		h.expect(moved, "a", "moved", "moved rang")
		if !moved {
			h.expect(false, "a", "moves rang")
		}
		stops := h.cast("a", Wind{"stops", "stopped", 20 * time.Second})
		h.expect(stops, "a", "stops")
		stopped := h.cast("a", Unwind{"stopped", "stopped"})
		h.expect(stopped, "a", "stopped")
		if !stopped {
			h.expect(false, "a", "stops rang")
		}
		h.verifyPairs("a/kept", "a/kept rang", "a/moved", "a/moved rang")
	})
}

func TestEachFaultOverLockAndRelease(t *testing.T) {
	eachSafeFault(t, easyToil, func(h *house) {
		h.toil("1")
		h.stow("between")
		h.toil("clumsy 2")
		h.expect(h.cast("a", Toil{ID: "cast 3"}), "a", "cast 3")
		h.stow("end")
		h.verify()
	})
}

// A sender that repeats itself with a key until it is told: then there is no doubt left.
func TestEachFaultOverKeysThatAreRepeated(t *testing.T) {
	eachSafeFault(t, easyToil, func(h *house) {
		repeat := func(key string, send func(opt dserver.Option) bool) {
			for i := 0; i < 5; i++ {
				if send(dserver.Once(key)) && i > 0 { // twice at least
					return
				}
			}
			h.t.Errorf("%v: %s is never acknowledged", h.f, key)
		}
		repeat("cast", func(o dserver.Option) bool { return h.cast("a", Stow{"cast"}, o) })
		repeat("call", func(o dserver.Option) bool { return h.call("a", Grab{ID: "call"}, "call", o) })
		repeat("toil", func(o dserver.Option) bool { return h.call("a", Toil{ID: "toil"}, "toil", o) })
		repeat("clumsy", func(o dserver.Option) bool { return h.call("a", Toil{ID: "clumsy"}, "clumsy", o) })
		repeat("defer", func(o dserver.Option) bool { return h.call("a", Defer{ID: "defer", By: "b"}, "defer", o) })
		for i := range 2 {
			id := fmt.Sprint("pass ", i)
			h.expect(h.cast("a", Remit{ID: id, To: "b", Key: "passed", Cents: 0}), "a", id)
		}
		h.expect(true, "a", "cast", "call", "toil", "clumsy", "defer")
		h.expect(true, "b", "defer answered")
		h.expect(false, "b", "passed passed")
		h.verify()
		if all, _ := h.seen(); all["a/pass 0"]+all["a/pass 1"] > 0 && all["b/passed passed"] != 1 {
			h.t.Errorf("%v: two sends with one key arrived as %v", h.f, all)
		}
	})
}

// A key is used again after a kill: the answer of the life before it is not the new one's, however late it comes.
func TestEachFaultOverAKeyOfTwoLives(t *testing.T) {
	eachSafeFault(t, easyToil, func(h *house) {
		h.call("a", Defer{ID: "old", By: "b"}, "old", dserver.Once("k"))
		for !h.do("kill", func(ctx context.Context) error { return h.at("a").Kill(ctx) }) {
		}
		for i := 0; i < 5 && !h.call("a", Defer{ID: "new", By: "b"}, "new", dserver.Once("k")); i++ {
		}
		h.expect(true, "a", "new")
		h.expect(true, "b", "new answered")
		h.expect(false, "b", "old answered")
		h.verify()
	})
}

// The answer comes from another server, in another turn.
func TestEachFaultOverDeferredReplies(t *testing.T) {
	eachSafeFault(t, easyToil, func(h *house) {
		for i, by := range []string{"b", "a"} {
			id := fmt.Sprint("defer ", i)
			done := h.call("a", Defer{ID: id, By: by}, id)
			h.expect(done, "a", id)
			h.expect(done, by, id+" answered")
		}
		h.verifyPairs("a/defer 0", "b/defer 0 answered", "a/defer 1", "a/defer 1 answered")
	})
}

// A poisoned message is set aside once, whatever happens to the counting, and retried once.
func TestEachFaultOverPoisonAndRetry(t *testing.T) {
	eachSafeFault(t, easyToil, func(h *house) {
		h.cast("a", Explode{"x"})
		h.stow("after")
		<-time.After(30 * time.Second)
		ctx, s := context.Background(), safe.At(h.f.Open(), "a")
		var dead []dserver.DeadLetter
		for d, err := range s.DeadLetters(ctx) {
			if errors.Is(err, backend.ErrClosed) {
				s = safe.At(h.f.Open(), "a")
			}
			dead = append(dead, d)
		}
		if len(dead) > 1 {
			h.t.Fatalf("%v: %d dead letters", h.f, len(dead))
		}
		if len(dead) == 1 {
			d := dead[0]
			d.Message = dserver.Message{Name: "Stow", Body: stowBody("mended")}
			done := h.do("retry", func(ctx context.Context) error {
				err := h.at("a").Retry(ctx, d)
				if errors.Is(err, dserver.ErrNotFound) && h.f.Reached() {
					return nil // it was, before
				}
				return err
			})
			h.expect(done, "a", "mended")
		}
		h.verify()
	})
}

func stowBody(id string) []byte {
	return append([]byte{0xa1, 0x62, 'I', 'D', 0x60 | byte(len(id))}, id...)
}

// A kill under the lock, with timers set and messages that wait: nothing of the old server comes back.
func TestEachFaultOverAKillUnderTheLock(t *testing.T) {
	eachSafeFault(t, func(ctx *dserver.LockedContext, _ Safe, m Toil) (string, error) {
		if m.ID != "waits for its end" {
			return m.ID, nil
		}
		<-ctx.Done()
		return "", ctx.Err()
	}, func(h *house) {
		h.cast("a", Wind{"wound", "n", 12 * time.Second})
		h.cast("a", Stow{"later"}, dserver.After(12*time.Second))
		h.cast("a", Stow{"keyed"}, dserver.Once("key"))
		h.cast("a", Toil{ID: "waits for its end"})
		h.cast("a", Stow{"waits"})
		<-time.After(5 * time.Second)
		for !h.do("kill", func(ctx context.Context) error { return h.at("a").Kill(ctx) }) {
		}
		<-time.After(5 * time.Second)
		if s, err := safe.At(h.f.Open(), "a").State(context.Background()); !errors.Is(err, dserver.ErrNotFound) {
			h.t.Errorf("%v: after the kill: %v, %v", h.f, s, err)
		}
		h.stow("new")
		h.toil("new toil")
		h.expect(h.cast("a", Stow{"keyed anew"}, dserver.Once("key")), "a", "keyed anew")
		h.verify()
	})
}

// A handler ends the work of its server, or its message waits and ends it then: never half of it. A key makes each message
// sure, so that the work is there to be ended.
func TestEachFaultOverAHandlerThatEndsLockedWork(t *testing.T) {
	eachSafeFault(t, func(ctx *dserver.LockedContext, _ Safe, _ Toil) (string, error) {
		<-ctx.Done()
		return "too late", nil
	}, func(h *house) {
		surely := func(m any, opts ...dserver.Option) {
			for !h.cast("a", m, append(opts, dserver.Once(fmt.Sprint(m)))...) {
			}
		}
		surely(Toil{ID: "ended"})
		for status := (dserver.Status{}); !status.Locked; <-time.After(time.Second) {
			var err error
			if status, err = safe.At(h.f.Open(), "a").Status(context.Background()); err != nil && !isInterrupted(err) {
				h.t.Fatal(err)
			}
		}
		surely(Stow{"waits"})
		surely(Halt{"halt"}, dserver.Priority())
		h.stow("after")
		h.expect(true, "a", "halt", "waits")
		h.verify()
		all := letters(h.t, safe.At(h.f.Open(), "a"))
		if len(all) != 1 || all[0].Message.Name != "Toil" || !errors.Is(&all[0].Err, errDenied) {
			h.t.Errorf("%v: set aside are %+v", h.f, all)
		}
	})
}

// The claims of a consumer that vanished make others careful; they cost no message.
func TestEachFaultOverClaimsOfTheDead(t *testing.T) {
	eachSafeFault(t, easyToil, func(h *house) {
		must := func(done bool, ids ...string) { h.expect(done, "a", ids...) }
		rounds := 2 // each adds a hundred runs
		if isLong() {
			rounds = 3
		}
		for round := range rounds {
			for i := range 2 {
				id := fmt.Sprint("stow ", round, i)
				must(h.cast("a", Stow{id}, dserver.Priority()), id)
			}
			h.kill()
			id := fmt.Sprint("call ", round)
			must(h.call("a", Grab{ID: id}, id), id)
		}
		h.verify()
		if n := deadLetters(h.t, safe.At(h.f.Open(), "a")); n != 0 {
			h.t.Errorf("%v: %d dead letters", h.f, n)
		}
	})
}

// kill ends the consumer's process, unless it is the user's. It starts again.
func (h *house) kill() {
	if h.own != nil {
		_ = h.consumer().Close()
		<-time.After(time.Second)
	}
}

// verifyPairs is verify for messages of which each second is a consequence of the one before it: both happened or none.
func (h *house) verifyPairs(ids ...string) {
	h.t.Helper()
	h.verify()
	all, _ := h.seen()
	for i := 0; i < len(ids); i += 2 {
		if all[ids[i]] != all[ids[i+1]] {
			h.t.Errorf("%v: %s happened %d times and %s %d times", h.f, ids[i], all[ids[i]], ids[i+1], all[ids[i+1]])
		}
	}
}
