package dserver_test

import (
	"fmt"
	"testing"
)

func TestTrap01CommitUnknownOnAPushCountsOnce(t *testing.T) {
	eachFault(t, func(h *host) {
		u := h.apart()
		for i := range 4 {
			_ = u.cast(fmt.Sprint(i))
		}
		u.verify()
	})
}

func TestTrap02CommitUnknownOnAnInlineCallRunsItOnce(t *testing.T) {
	eachFault(t, func(h *host) {
		u := h.beside()
		for i := range 4 {
			_ = u.call(fmt.Sprint(i))
		}
		u.verify()
	})
}

func TestTrap04ActionsRunOnceAlthoughTheCommitWasInDoubt(t *testing.T) {
	for _, apart := range []bool{true, false} {
		t.Run(map[bool]string{true: "queued", false: "inline"}[apart], func(t *testing.T) {
			eachFault(t, func(h *host) {
				u := h.beside()
				if apart {
					u = h.apart()
				}
				for i := range 3 {
					_ = u.mark(fmt.Sprint(i))
				}
				u.verify()
				for _, line := range u.lines() {
					if n := h.acted(line); n > 1 || n == 0 && !h.doubtful() {
						t.Errorf("%v: the action of %s ran %d times", h.f, line, n)
					}
				}
			})
		})
	}
}

func TestTrap13ACastIsDurableWhenItReturns(t *testing.T) {
	eachFault(t, func(h *host) {
		for _, u := range []*user{h.beside(), h.apart()} {
			if err := u.cast("first"); err != nil {
				continue
			}
			db := h.f.Open() // another process, and this one may be gone
			_ = db
		}
	})
}
