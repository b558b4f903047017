package occ

import "github.com/dserver-go/dserver/backend"

// Reads across a network. Where the snapshot can start reads, those that no own write lies over wait in pending: when one
// of them is waited for all are, in one round trip, and when fn has returned. What they bring is a conflict by then, and
// an error of theirs fails the transaction whether fn looks at it or not. Own writes that come later do not change them,
// as writes wait as well.

// isPlain reports whether key is read as it is stored.
func (t *Tx) isPlain(key backend.Key) bool {
	return t.points.find(key) == nil && !t.cleared.contains(key) && !t.appendsTo(key.Only())
}

// isPlainRange reports whether r is read as it is stored.
func (t *Tx) isPlainRange(r backend.Range) bool {
	return !r.IsEmpty() && !t.points.any(r) && !t.cleared.Overlaps(r) && !t.appendsTo(r)
}

// settle waits for the reads that were started.
func (t *Tx) settle() {
	for i := 0; i < len(t.pending); i++ {
		t.pending[i]()
	}
	t.pending = t.pending[:0]
}

// await is wait for a future: what the transaction has seen before must be true as well.
func await[T any](t *Tx, wait func() (T, error)) backend.Future[T] {
	return backend.Later(func() (value T, err error) {
		if t.settle(); t.err != nil {
			return value, t.err
		}
		return wait()
	})
}

func (t *Tx) startGet(key backend.Key) backend.Future[[]byte] {
	t.start()
	t.fail(t.size.ConflictKey(key))
	if t.err != nil {
		return backend.Ready[[]byte](nil, t.err)
	}
	return await(t, t.startKey(key))
}

// startKey starts the read of a key that is a conflict.
func (t *Tx) startKey(key backend.Key) (wait func() ([]byte, error)) {
	_ = t.confirm() // is started, too
	place := len(t.reads.keys)
	t.reads.keys = append(t.reads.keys, keyRead{key: t.arena.copy(key)})
	wait = t.starter.StartGet(t.reads.keys[place].key)
	t.pending = append(t.pending, func() {
		value, err := wait()
		t.reads.keys[place].value = value
		t.fail(err)
	})
	return wait
}

func (t *Tx) startRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	t.start()
	if t.err != nil {
		return backend.Ready[[]backend.KeyValue](nil, t.err)
	}
	if pairs, ok := t.guess(r, o); ok {
		return backend.Ready(pairs, nil)
	}
	_ = t.confirm() // is started, too
	first, place := t.reads.isBlank(), len(t.reads.ranges)
	r = t.copyRange(r)
	t.reads.ranges = append(t.reads.ranges, rangeRead{r: r, isSnapshot: o.Snapshot})
	wait := t.starter.StartScan(r, o)
	t.pending = append(t.pending, func() {
		pairs, cut, err := wait()
		if cut {
			r = upTo(r, pairs[len(pairs)-1].Key, o.Reverse)
		}
		t.reads.ranges[place].r, t.reads.ranges[place].pairs = r, pairs
		t.recalls = t.recalls || first && o.Snapshot && !o.Reverse && !cut
		if err == nil && !o.Snapshot {
			err = t.size.Conflict(r)
		}
		t.fail(err)
	})
	return await(t, func() ([]backend.KeyValue, error) {
		pairs, _, err := wait()
		return pairs, err
	})
}

// startConflict makes key a conflict. A range that is on its way may have its value; that costs less than to wait for it.
func (t *Tx) startConflict(key backend.Key) {
	if len(t.pending) == 0 {
		if value, isKnown := t.reads.lookUp(key); isKnown {
			t.reads.keys = append(t.reads.keys, keyRead{t.arena.copy(key), value})
			return
		}
	}
	t.startKey(key)
}
