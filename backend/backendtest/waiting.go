package backendtest

import (
	"errors"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// patience is how long the suite waits for what must happen soon. Only a failing test waits so long; a machine that
// others keep busy may need much of it.
const patience = time.Minute

// within waits for what must happen, and ends the test where it does not.
func within(t testing.TB, happened <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-happened:
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
	}
}

// closeAll closes handles, none of which may take long.
func closeAll(t testing.TB, handles ...backend.Database) {
	t.Helper()
	closed, errs := make(chan struct{}), make([]error, len(handles))
	go func() {
		defer close(closed)
		for i, db := range handles {
			errs[i] = db.Close()
		}
	}()
	within(t, closed, "Close returns")
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("close: %v", err)
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
