package main

import (
	"slices"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// Limiter is the state of a limiter: who uploads, and who waits, in the order of their coming.
type Limiter struct {
	Slots   int
	Holders map[string]bool // by upload; each has a timer of that name
	Waiting []Waiter
}

// Waiter is an upload that has no slot yet. Its caller is answered when it gets one.
type Waiter struct {
	Upload string
	From   dserver.From[bool]
}

// SetSlots says how many uploads may run at once.
type SetSlots struct{ N int }

// Acquire asks for a slot, and is answered when there is one. It is held for a lease.
type Acquire struct {
	dserver.Returns[bool]
	Upload string
}

// Renew keeps a slot for another lease. ErrLost says that it is gone, and that the upload must stop.
type Renew struct{ Upload string }

// Release gives a slot back.
type Release struct{ Upload string }

// expire is sent by the timer of a lease that nobody renewed.
type expire struct{ Upload string }

// ErrLost refuses to renew a slot that was taken back.
var ErrLost = &dserver.Error{Code: "lost", Text: "the slot was taken back"}

// lease is how long a crashed upload keeps its slot.
const lease = 2 * time.Second

// Limiters hand out slots. A slot is handed out with a timer that takes it back: the answer alone is no receipt, as its
// caller may have gone, and one that has a slot may die with it.
var Limiters = dserver.Define("limiter",
	dserver.HandleCast(func(ctx *dserver.Context, l *Limiter, m SetSlots) error {
		l.Slots = m.N
		l.handOut(ctx)
		return nil
	}),
	dserver.HandleCall(func(ctx *dserver.Context, l *Limiter, m Acquire) (bool, error) {
		l.leave(ctx, m.Upload) // asked again: the first time was in vain
		l.Waiting = append(l.Waiting, Waiter{m.Upload, dserver.ReplyLater(ctx, m)})
		l.handOut(ctx)
		return false, nil // handOut answers
	}),
	dserver.HandleCast(func(ctx *dserver.Context, l *Limiter, m Renew) error {
		if !l.Holders[m.Upload] {
			return ErrLost
		}
		l.hold(ctx, m.Upload)
		return nil
	}),
	dserver.HandleCast(func(ctx *dserver.Context, l *Limiter, m Release) error {
		l.leave(ctx, m.Upload)
		l.handOut(ctx)
		return nil
	}),
	dserver.HandleCast(func(ctx *dserver.Context, l *Limiter, m expire) error {
		l.leave(ctx, m.Upload)
		l.handOut(ctx)
		return nil
	}),
)

// handOut gives free slots to those who wait.
func (l *Limiter) handOut(ctx *dserver.Context) {
	for len(l.Waiting) > 0 && len(l.Holders) < l.Slots {
		next := l.Waiting[0]
		l.Waiting = l.Waiting[1:]
		l.hold(ctx, next.Upload)
		next.From.Reply(ctx, true)
	}
}

// hold gives an upload a whole lease from now on: setting its timer again moves it.
func (l *Limiter) hold(ctx *dserver.Context, upload string) {
	l.Holders[upload] = true
	ctx.SetTimer(upload, lease, expire{upload})
}

// leave forgets an upload, whether it holds a slot or waits for one.
func (l *Limiter) leave(ctx *dserver.Context, upload string) {
	if l.Holders[upload] {
		delete(l.Holders, upload)
		ctx.CancelTimer(upload)
	}
	l.Waiting = slices.DeleteFunc(l.Waiting, func(w Waiter) bool { return w.Upload == upload })
}
