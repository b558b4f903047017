//go:build fdb

package fdb

import (
	"context"
	"sync"
	"sync/atomic"
)

// shared is something that the first caller begins to make and that all callers wait for, each as long as its context
// lets it. The making goes on when all of them have left. After a failure the next caller begins again.
type shared[T any] struct {
	value atomic.Pointer[T]

	mu     sync.Mutex
	making *making[T] // nil when none is under way
}

// making is one attempt. What it found may be read when done is closed.
type making[T any] struct {
	done  chan struct{}
	value *T
	err   error
}

// get returns what is there, or waits for make. It returns ctx's error when that ends first.
func (s *shared[T]) get(ctx context.Context, make func() (*T, error)) (*T, error) {
	if v := s.value.Load(); v != nil {
		return v, nil
	}
	m := s.begin(make)
	select {
	case <-m.done:
		return m.value, m.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *shared[T]) begin(produce func() (*T, error)) *making[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.making != nil {
		return s.making
	}
	m := &making[T]{done: make(chan struct{})}
	if v := s.value.Load(); v != nil { // it was made since the caller looked
		m.value = v
		close(m.done)
		return m
	}
	s.making = m
	go func() {
		m.value, m.err = produce()
		s.mu.Lock()
		s.value.Store(m.value)
		s.making = nil
		s.mu.Unlock()
		close(m.done)
	}()
	return m
}

// drop forgets v, so that the next get makes another.
func (s *shared[T]) drop(v *T) { s.value.CompareAndSwap(v, nil) }
