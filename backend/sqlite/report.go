package sqlite

import (
	"sync"

	"github.com/dserver-go/dserver/backend"
)

// reports are who wants to be told what no call returns.
type reports struct {
	mu   sync.Mutex
	next int
	to   map[int]func(error)
}

var _ backend.Reporter = (*DB)(nil)

// Report implements [backend.Reporter]. It tells that the log grows beyond its bounds, and that it is back in them.
func (db *DB) Report(to func(error)) (stop func()) {
	r := &db.reports
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.to == nil {
		r.to = map[int]func(error){}
	}
	r.next++
	id := r.next
	r.to[id] = to
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.to, id)
	}
}

func (db *DB) tell(what error) {
	db.reports.mu.Lock()
	defer db.reports.mu.Unlock()
	for _, to := range db.reports.to {
		to(what)
	}
}
