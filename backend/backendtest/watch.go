package backendtest

import "sync"

// watches are those that wait, by key. The store's mutex guards them.
type watches map[string]map[*watch]struct{}

func (ws watches) add(w *watch) {
	if ws[w.key] == nil {
		ws[w.key] = make(map[*watch]struct{})
	}
	ws[w.key][w] = struct{}{}
}

func (ws watches) remove(w *watch) {
	delete(ws[w.key], w)
	if len(ws[w.key]) == 0 {
		delete(ws, w.key)
	}
}

// fire fires and forgets the watches of changed keys.
func (ws watches) fire(changed spans) {
	for _, c := range changed {
		if c == only(c.begin) {
			ws.fireKey(c.begin)
			continue
		}
		for key := range ws {
			if c.overlaps(only(key)) {
				ws.fireKey(key)
			}
		}
	}
}

func (ws watches) fireKey(key string) {
	for w := range ws[key] {
		w.fire()
	}
	delete(ws, key)
}

// fireOf fires and forgets the watches of one handle.
func (ws watches) fireOf(h *handle) {
	for _, ofKey := range ws {
		for w := range ofKey {
			if w.handle == h {
				w.fire()
				ws.remove(w)
			}
		}
	}
}

// watch is a backend.Watch of the model.
type watch struct {
	handle *handle
	key    string
	once   sync.Once
	done   chan struct{}
}

func (w *watch) Done() <-chan struct{} { return w.done }

func (w *watch) Cancel() {
	store := w.handle.store
	store.mu.Lock()
	defer store.mu.Unlock()
	store.watches.remove(w)
	w.once.Do(func() {}) // one that is cancelled before its Read returned does not fire later either
}

func (w *watch) fire() { w.once.Do(func() { close(w.done) }) }
