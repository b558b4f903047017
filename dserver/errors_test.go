package dserver_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/tenant"
)

// The rooms below have the library's errors under names of their own. They are the same, and users meet none of the others.
func TestErrorsAreThoseOfTheRoomsBelow(t *testing.T) {
	for public, below := range map[*dserver.Error]*tenant.Error{
		dserver.ErrNoHandler: tenant.ErrNoHandler,
		dserver.ErrKeyReused: tenant.ErrKeyReused,
		dserver.ErrQueueFull: tenant.ErrQueueFull,
		dserver.ErrFault:     tenant.ErrFault,
		dserver.ErrReplyLost: tenant.ErrReplyLost,
		dserver.ErrKilled:    tenant.ErrKilled,
		dserver.ErrWithdrawn: tenant.ErrWithdrawn,
		dserver.ErrState:     tenant.ErrState,
		dserver.ErrNotFound:  tenant.ErrNotFound,
	} {
		if *public != dserver.Error(*below) {
			t.Errorf("%+v is %+v below", public, below)
		}
	}
}

// An error that comes wrapped from below keeps its text, and is found by errors.Is and errors.As as one of dserver's.
func TestErrorsFromBelowAreFound(t *testing.T) {
	journals := journals.At(newStore(t, journals).Open(), "a")
	_, err := journals.State(t.Context())
	var e *dserver.Error
	if !errors.Is(err, dserver.ErrNotFound) || !errors.As(err, &e) || e.Code != dserver.ErrNotFound.Code {
		t.Errorf("%v", err)
	}
	wrapped := fmt.Errorf("look: %w", err)
	if !errors.Is(wrapped, dserver.ErrNotFound) || errors.Is(wrapped, dserver.ErrKilled) {
		t.Errorf("%v", wrapped)
	}
}
