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
	calls  backend.Calls
	closed chan struct{} // closed when Close begins
	once   sync.Once
}

func (h *handle) Close() (left error) {
	h.once.Do(func() {
		close(h.closed)
		h.store.mu.Lock()
		h.store.watches.fireOf(h)
		h.store.mu.Unlock()
		h.calls.Close()
		if err := h.calls.Await(); err != nil {
			left = fmt.Errorf("model: %w", err)
		}
	})
	return left
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
	call := h.calls.Enter("Transact", fn)
	if call == nil {
		return fmt.Errorf("model: transact: %w", backend.ErrClosed)
	}
	defer h.calls.Leave(call)
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
	call := h.calls.Enter("Read", fn)
	if call == nil {
		return fmt.Errorf("model: read: %w", backend.ErrClosed)
	}
	defer h.calls.Leave(call)
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
