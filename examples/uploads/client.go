package main

import (
	"context"
	"errors"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// Upload runs work while it holds a slot of the limiter, and gives the slot back. Work's context ends when the slot
// could not be renewed in time: work must stop then, as the slot may be somebody else's.
//
// No clocks are compared. The limiter counts a lease from when it handled a request, and Upload from when it sent it,
// which is earlier: so Upload stops before the limiter hands the slot on.
func Upload(ctx context.Context, limiter *dserver.DServer[Limiter], name string, work func(ctx context.Context) error) error {
	until := time.Now().Add(lease)
	_, err := dserver.Call(ctx, limiter, Acquire{Upload: name})
	if err == nil && time.Until(until) < lease/2 { // it waited, and nobody knows how long ago it got the slot
		until, err = renew(ctx, limiter, name)
	}
	if err == nil {
		err = hold(ctx, limiter, name, until, work)
	}
	// Whatever happened, the slot or the place in the queue is given back. Should this be lost, the timer takes it.
	return errors.Join(err, limiter.Cast(context.WithoutCancel(ctx), Release{name}))
}

// hold runs work until it ends or the slot is lost.
func hold(ctx context.Context, limiter *dserver.DServer[Limiter], name string, until time.Time, work func(ctx context.Context) error) error {
	working, stop := context.WithCancelCause(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		stop(keep(working, limiter, name, until))
	}()
	err := work(working)
	if working.Err() != nil {
		err = errors.Join(err, context.Cause(working)) // what was done after the slot was lost does not count
	}
	stop(nil)
	<-kept
	return err
}

// keep renews the slot three times per lease. It returns when that fails, or ctx ends.
func keep(ctx context.Context, limiter *dserver.DServer[Limiter], name string, until time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(lease/3, time.Until(until))):
		}
		call, cancel := context.WithDeadline(ctx, until)
		next, err := renew(call, limiter, name)
		cancel()
		switch {
		case err == nil:
			until = next
		case errors.Is(err, ErrLost), !time.Now().Before(until):
			return err
		}
	}
}

// renew returns until when the slot is held.
func renew(ctx context.Context, limiter *dserver.DServer[Limiter], name string) (time.Time, error) {
	asked := time.Now()
	err := limiter.Call(ctx, Renew{name}, nil)
	return asked.Add(lease), err
}
