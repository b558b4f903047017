package backendtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// handle is a database of the model.
type handle struct {
	store  *Store
	closed chan struct{} // closed when Close begins
	idle   chan struct{} // closed when nothing runs any more after that

	mu      sync.Mutex
	ending  bool
	running int
}

// enter begins a call that Close waits for.
func (h *handle) enter() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ending {
		return backend.ErrClosed
	}
	h.running++
	return nil
}

func (h *handle) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running--; h.ending && h.running == 0 {
		close(h.idle)
	}
}

func (h *handle) Close() error {
	if h.end() {
		h.store.mu.Lock()
		h.store.watches.fireOf(h)
		h.store.mu.Unlock()
	}
	<-h.idle
	return nil
}

// end makes all calls fail, and reports whether it was the first to.
func (h *handle) end() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ending {
		return false
	}
	h.ending = true
	close(h.closed)
	if h.running == 0 {
		close(h.idle)
	}
	return true
}

// refusal is why a transaction that reads or commits now may not: its context ended, or its database.
func (h *handle) refusal(ctx context.Context) error {
	if h.isClosed() {
		return backend.ErrClosed
	}
	return ctx.Err()
}

func (h *handle) isClosed() bool {
	select {
	case <-h.closed:
		return true
	default:
		return false
	}
}

func (h *handle) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	if err := h.enter(); err != nil {
		return fmt.Errorf("model: transact: %w", err)
	}
	defer h.leave()
	mayRecall := true
	for old := 0; ; mayRecall = false {
		t := &tx{snapshot: snapshot{handle: h, ctx: ctx}, mayRecall: mayRecall}
		switch end, err := t.run(fn); end {
		case ended:
			return err
		case tooOld:
			if old++; old == 2 {
				return fmt.Errorf("model: transact: %w", backend.ErrTooOld)
			}
		case lost:
		}
	}
}

func (h *handle) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	if err := h.enter(); err != nil {
		return fmt.Errorf("model: read: %w", err)
	}
	defer h.leave()
	for old := 0; ; {
		t := &readTx{snapshot: snapshot{handle: h, ctx: ctx}}
		switch end, err := t.run(fn); end {
		case tooOld:
			if old++; old == 2 {
				return fmt.Errorf("model: read: %w", backend.ErrTooOld)
			}
		default:
			return err
		}
	}
}

// ending is how a run of fn ended: for good, or so that fn runs again.
type ending int

const (
	ended ending = iota
	lost
	tooOld
)

// snapshot is what transactions of both kinds read from.
type snapshot struct {
	handle *handle
	ctx    context.Context
	base   *version // nil until the first read
	began  time.Time
	err    error // the first that failed the transaction
}

// take draws the snapshot at the first read, and reports whether the transaction may read.
func (s *snapshot) take() bool {
	s.check()
	if s.err == nil && s.base == nil {
		s.base, s.began = s.handle.store.snapshot(), time.Now()
	}
	return s.err == nil
}

// check fails a transaction whose time is over.
func (s *snapshot) check() {
	if s.err == nil {
		s.err = s.handle.refusal(s.ctx)
	}
	if s.err == nil && s.base != nil && time.Since(s.began) > backend.MaxDuration {
		s.err = backend.ErrTooOld
	}
}

func (s *snapshot) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// outcome is how a run ends whose fn returned err. What failed the transaction is not hidden by another error of fn.
func (s *snapshot) outcome(err error) (ending, error) {
	switch {
	case s.err == backend.ErrTooOld:
		return tooOld, nil
	case s.err == nil || err != nil && errors.Is(err, s.err):
		return ended, err
	}
	return ended, fmt.Errorf("model: %w", s.err)
}

// A transaction that was kept after its end reads nothing.
func (s *snapshot) end() {
	s.base = nil
	s.fail(errEnded)
}
