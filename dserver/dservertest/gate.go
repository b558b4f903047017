package dservertest

import (
	"context"

	"github.com/dserver-go/dserver/backend"
)

// sender is a goroutine of a program. It stops at the gate before each of its commits and reads.
type sender struct {
	name    string
	parked  chan string   // what it is about to do
	proceed chan struct{} // it may
	ended   chan struct{}

	// Of the goroutine that decides.
	doing string // "" while it runs, or waits for something else
	over  bool
}

// park waits until the sender may go on, or the order was given up.
func (s *sender) park(ctx context.Context, doing string) {
	select {
	case s.parked <- doing:
	case <-ctx.Done():
		return
	}
	select {
	case <-s.proceed:
	case <-ctx.Done():
	}
}

// look tells what the sender is about to do, and whether it runs at all.
func (s *sender) look() (doing string, running bool) {
	if s.doing == "" && !s.over {
		select {
		case s.doing = <-s.parked:
		case <-s.ended:
			s.over = true
		default:
		}
	}
	return s.doing, !s.over
}

func (s *sender) goOn() {
	s.doing = ""
	s.proceed <- struct{}{}
}

type senderKey struct{}

// gate is a database at which senders stop. It knows them by their contexts, and lets others pass.
type gate struct{ backend.Database }

func (g *gate) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	if s, ok := ctx.Value(senderKey{}).(*sender); ok {
		s.park(ctx, "sends")
	}
	return g.Database.Transact(ctx, fn)
}

func (g *gate) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	s, ok := ctx.Value(senderKey{}).(*sender)
	if !ok {
		return g.Database.Read(ctx, fn)
	}
	return g.Database.Read(ctx, func(tx backend.ReadTx) error {
		return fn(&gatedRead{ReadTx: tx, stop: func() { s.park(ctx, "reads") }})
	})
}

// gatedRead stops before its first read, at which the snapshot is drawn. One that begins with a watch is how a call
// waits for its answer: that is no step.
type gatedRead struct {
	backend.ReadTx
	stop func() // nil: go on
}

func (r *gatedRead) begin() {
	if stop := r.stop; stop != nil {
		r.stop = nil
		stop()
	}
}

func (r *gatedRead) Get(key backend.Key) backend.Future[[]byte] {
	r.begin()
	return r.ReadTx.Get(key)
}

func (r *gatedRead) GetRange(of backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	r.begin()
	return r.ReadTx.GetRange(of, o)
}

func (r *gatedRead) Watch(key backend.Key) backend.Watch {
	r.stop = nil
	return r.ReadTx.Watch(key)
}
