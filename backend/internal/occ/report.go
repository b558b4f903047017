package occ

import "sync"

// Reports are who wants to be told what no call returns. The zero value is nobody.
type Reports struct {
	mu   sync.Mutex
	next int
	to   map[int]func(error)
}

// Add makes Tell call to until stop is called.
func (r *Reports) Add(to func(error)) (stop func()) {
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

// Tell tells all of them.
func (r *Reports) Tell(what error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, to := range r.to {
		to(what)
	}
}
