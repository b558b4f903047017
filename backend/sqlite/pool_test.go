package sqlite

import (
	"testing"

	driver "zombiezen.com/go/sqlite"
)

// The one connection that there is comes back just as no other can be opened: who tried has that one.
func TestConnectionThatComesBackWhileNoOtherCanBeOpened(t *testing.T) {
	only, opened := &connection{}, 0
	var p pool
	p.path, p.limit = "test.db", 2
	p.connect = func() (*connection, error) {
		if opened++; opened == 1 {
			return only, nil
		}
		p.release(only, false)
		return nil, driver.ResultCantOpen.ToError()
	}
	for range 2 {
		if c, err := p.acquire(t.Context(), &snapshot{}); c != only || err != nil {
			t.Fatalf("%v, %v", c, err)
		}
	}
}
