package backendtest

import (
	"errors"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// patience is how long the suite waits for what must happen soon. Only a failing test waits so long.
const patience = 20 * time.Second

// within waits for what must happen.
func within(t testing.TB, happened <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-happened:
	case <-time.After(patience):
		t.Errorf("not within %v: %s", patience, what)
	}
}

// assertClosed checks that nothing can be done with db any more.
func assertClosed(t testing.TB, db backend.Database) {
	t.Helper()
	if err := db.Transact(t.Context(), func(backend.Tx) error { return nil }); !errors.Is(err, backend.ErrClosed) {
		t.Errorf("Transact on a closed database: %v", err)
	}
	if err := db.Read(t.Context(), func(backend.ReadTx) error { return nil }); !errors.Is(err, backend.ErrClosed) {
		t.Errorf("Read on a closed database: %v", err)
	}
}
