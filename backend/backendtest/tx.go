package backendtest

import (
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
)

var (
	errEnded      = errors.New("the transaction has ended")
	errNotWritten = errors.New("model: version: the transaction wrote nothing or was not committed")
	errRecalled   = errors.New("model: the transaction recalled, and reads")
	errUnreadable = errors.New("model: what the transaction appended or stamped is unknown until its commit")
)

// tx is a backend.Tx of the model.
type tx struct {
	snapshot
	read       spans
	writes     []write
	view       *pairs // base with writes; nil while one of the two is missing
	unreadable spanSet
	appends    uint16
	size       backend.Size
	stamp      backend.Versionstamp // zero until the commit
	mayRecall  bool
	recalled   bool
	isAsync    bool
}

// run is one run of fn, with its commit.
func (t *tx) run(fn func(backend.Tx) error) (ending, error) {
	defer t.end()
	if t.check(); t.err != nil {
		return t.outcome(nil)
	}
	err := fn(t)
	if t.recalled && (err != nil || t.err != nil || len(t.writes) == 0) {
		return lost, nil
	}
	if err != nil {
		return t.outcome(err)
	}
	if t.check(); t.err != nil || len(t.writes) == 0 {
		return t.outcome(nil)
	}
	stamp, won := t.handle.store.commit(t.base, t.read, t.writes, t.isAsync)
	if !won {
		return lost, nil
	}
	t.stamp = stamp
	return ended, nil
}

func (t *tx) Get(key backend.Key) backend.Future[[]byte] {
	where := only(string(key))
	if !t.reads(where) {
		return backend.Ready[[]byte](nil, t.err)
	}
	t.conflict(where)
	value, _ := t.current().Get(where.begin)
	return backend.Ready(value, t.err)
}

func (t *tx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	where := spanOf(r)
	if !t.reads(where) {
		return backend.Ready[[]backend.KeyValue](nil, t.err)
	}
	found, read := getRange(t.current(), where, o)
	if !o.Snapshot {
		t.conflict(read)
	}
	return backend.Ready(found, t.err)
}

// Recall draws the snapshot from memory. A caller that is wrong about since panics.
func (t *tx) Recall(v, since backend.Versionstamp, known ...backend.Range) bool {
	t.check()
	if !t.mayRecall || t.err != nil || t.base != nil || len(t.writes) > 0 {
		return false
	}
	if t.base = t.handle.store.beforeCommit(v); t.base == nil {
		return false
	}
	t.began, t.recalled = time.Now(), true
	for _, r := range known {
		t.conflict(spanOf(r))
	}
	if since != v && t.handle.store.changedBetween(since, t.base, t.read) {
		panic("model: what a transaction recalls has changed after the commit since which it has not")
	}
	return true
}

// CommitAsync implements [backend.AsyncCommitter]: the commit is on the disk with the next one that is not asynchronous.
func (t *tx) CommitAsync() { t.isAsync = true }

// reads reports whether where may be read now.
func (t *tx) reads(where span) bool {
	if t.recalled {
		t.fail(errRecalled)
	}
	if t.unreadable.overlap(where) {
		t.fail(fmt.Errorf("%w: %q to %q", errUnreadable, where.begin, where.end))
	}
	return t.take()
}

func (t *tx) conflict(read span) {
	if read.empty() {
		return
	}
	t.read = append(t.read, read)
	if err := t.size.Conflict(backend.Range{Begin: backend.Key(read.begin), End: backend.Key(read.end)}); err != nil {
		t.fail(err)
	}
}

// current is what the transaction sees: its base, with its own writes.
func (t *tx) current() *pairs {
	if len(t.writes) == 0 {
		return t.base.pairs
	}
	if t.view == nil {
		t.view = t.handle.store.viewOf(t.base)
		for _, w := range t.writes {
			t.preview(w)
		}
	}
	return t.view
}

// preview does w in the view. What it cannot know yet is unreadable.
func (t *tx) preview(w write) {
	if w.kind != isAppend && w.kind != isStamp {
		w.apply(t.view, backend.Versionstamp{})
	}
}

// write buffers w, unless counting it gave an error.
func (t *tx) write(w write, err error) {
	if err != nil {
		t.fail(err)
		return
	}
	t.writes = append(t.writes, w)
	if unreadable := w.unreadable(); !unreadable.empty() {
		t.unreadable.add(unreadable)
	}
	if t.view != nil {
		t.preview(w)
	}
}

func (t *tx) Set(key backend.Key, value []byte) {
	t.write(write{kind: isSet, at: only(string(key)), value: clone(value)}, t.size.Write(key, len(value)))
}

func (t *tx) Clear(r backend.Range) {
	if r.IsEmpty() {
		return
	}
	t.write(write{kind: isClear, at: spanOf(r)}, t.size.Clear(r))
}

func (t *tx) Add(key backend.Key, delta int64) {
	t.write(write{kind: isAdd, at: only(string(key)), delta: delta}, t.size.Write(key, counterBytes))
}

func (t *tx) Append(prefix backend.Key, value []byte) {
	w := write{kind: isAppend, at: only(string(prefix)), value: clone(value), order: t.appends}
	t.write(w, t.size.Append(prefix, len(value)))
	t.appends++
}

func (t *tx) Stamp(key backend.Key) {
	t.write(write{kind: isStamp, at: only(string(key))}, t.size.Write(key, len(t.stamp)))
}

// Conflict draws the snapshot as a read does: a change is later when it comes after that.
func (t *tx) Conflict(key backend.Key) {
	if t.take() {
		t.conflict(only(string(key)))
	}
}

func (t *tx) Version() backend.Future[backend.Versionstamp] {
	return backend.Later(func() (backend.Versionstamp, error) {
		if t.stamp.IsZero() {
			return t.stamp, errNotWritten
		}
		return t.stamp, nil
	})
}

const counterBytes = 8

// clone is never nil: an empty value is a value.
func clone(value []byte) []byte { return append(make([]byte, 0, len(value)), value...) }

// readTx is a backend.ReadTx of the model.
type readTx struct {
	snapshot
	watches []*watch
}

// run is one run of fn. Its watches are set when it succeeds and can be seen by nobody else before, so those of a run
// that failed need no cancelling.
func (t *readTx) run(fn func(backend.ReadTx) error) (ending, error) {
	defer t.end()
	if t.check(); t.err != nil {
		return t.outcome(nil)
	}
	err := fn(t)
	if err != nil || t.err != nil {
		return t.outcome(err)
	}
	t.handle.store.watch(t.base, t.watches)
	return ended, nil
}

func (t *readTx) Get(key backend.Key) backend.Future[[]byte] {
	if !t.take() {
		return backend.Ready[[]byte](nil, t.err)
	}
	value, _ := t.base.pairs.Get(string(key))
	return backend.Ready(value, nil)
}

func (t *readTx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	if !t.take() {
		return backend.Ready[[]backend.KeyValue](nil, t.err)
	}
	found, _ := getRange(t.base.pairs, spanOf(r), o)
	return backend.Ready(found, nil)
}

func (t *readTx) Watch(key backend.Key) backend.Watch {
	w := &watch{handle: t.handle, key: string(key), done: make(chan struct{})}
	if t.take() {
		t.watches = append(t.watches, w)
	}
	return w
}

// getRange reads where from p, and tells what was read: all of where, or up to the last pair where o cut it.
func getRange(p *pairs, where span, o backend.RangeOptions) (found []backend.KeyValue, read span) {
	if where.empty() {
		return nil, where
	}
	bytes, read := 0, where
	take := func(key string, value []byte) bool {
		if key < where.begin || key >= where.end {
			return key >= where.end && o.Reverse // a descent begins at end, which is not in the range
		}
		found = append(found, backend.KeyValue{Key: backend.Key(key), Value: value})
		bytes += len(key) + len(value)
		if len(found) != o.Limit && (o.Bytes == 0 || bytes < o.Bytes) {
			return true
		}
		if read.end = only(key).end; o.Reverse {
			read = span{key, where.end}
		}
		return false
	}
	if o.Reverse {
		p.Descend(where.end, take)
	} else {
		p.Ascend(where.begin, take)
	}
	return found, read
}
