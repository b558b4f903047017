package sqlite

import (
	"fmt"
	"time"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend"
)

// blockNumbers is how many commit numbers are reserved at a time.
const blockNumbers = 1 << 16

// commit commits members as one SQLite transaction and sets their results. The write lock is held.
func (w *writer) commit(members []*tx) {
	group, err := w.gatherWrites(members)
	switch {
	case err != nil:
		w.failed(members, w.db.judge("write", err, closedBy))
		return
	case group.isEmpty(): // all have lost
		err = drain(w.undo)
	default:
		if err := w.reserveIndex(group); err != nil {
			w.failed(members, err)
			return
		}
		err = drain(w.end)
	}
	if err != nil {
		if driver.ErrCode(err).ToPrimary() == driver.ResultFull {
			w.db.checkpoints.press()
		}
		w.failed(members, w.db.judge("commit", err, unknownBy))
		return
	}
	if err := w.db.judgeFiles(w.db.files.checkSoon()); err != nil {
		w.failed(members, unknownBy(err))
		return
	}
	if group.foreign {
		w.metForeign()
	}
	if !group.isEmpty() {
		for _, m := range members {
			m.record = group
		}
		w.publish(group)
	}
}

// gatherWrites validates the members, and applies what those write that may be committed.
func (w *writer) gatherWrites(members []*tx) (*record, error) {
	row, err := w.row()
	if err != nil {
		return nil, err
	}
	group := &record{foreign: row != w.reserved}
	if err := w.admit(members, group, row); err != nil {
		return nil, err
	}
	return group, w.apply(group)
}

// row reads the sequence row: the end of the block of numbers that was reserved last, by whatever process. Who
// commits after another process reserves a new block, so that the row tells whose the last commit was, and numbers
// grow across processes. Between processes that is a row written for each commit, within one it is one in 65,536.
func (w *writer) row() (int64, error) {
	stmt := w.conn.sequence
	ok, err := stmt.Step()
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, errNoSequence
	}
	row := stmt.ColumnInt64(0)
	return row, stmt.Reset()
}

// admit takes the members that may be committed into group, in their order, and numbers them.
func (w *writer) admit(members []*tx, group *record, row int64) error {
	next := w.next
	if group.foreign {
		next = row + 1
	}
	first := next
	for _, t := range members {
		lost, err := w.lost(t, group)
		if err != nil {
			return err
		}
		if lost {
			t.place.result = errLost
			continue
		}
		t.place.result = nil
		t.commit = backend.NewVersionstamp(uint64(next), 0)
		next++
		group.absorb(t)
	}
	w.next = next
	if next == first || !group.foreign && next <= row+1 {
		return nil
	}
	return w.setRow(max(row+blockNumbers, next-1))
}

// setRow reserves numbers up to end.
func (w *writer) setRow(end int64) error {
	w.owned.Store(end) // before the commit, so that the poll does not take ours for another's
	w.reserve.BindInt64(1, end)
	return drain(w.reserve)
}

// absorb lays t's writes over those of the group.
func (c *record) absorb(t *tx) {
	for r := range t.cleared.all() {
		c.points.drop(r)
		c.cleared.add(r)
	}
	for _, block := range t.points.blocks {
		for _, w := range block {
			c.lay(w, t.commit)
		}
	}
	t.dropCleared()
	for i, a := range t.appends {
		if !a.isCleared {
			c.points.put(&write{kind: set, key: t.keyOf(i), value: a.value})
		}
	}
}

// lay lays one write of the transaction v over those of the group.
func (c *record) lay(w *write, v backend.Versionstamp) {
	switch w.kind {
	case stamp:
		w.kind, w.value = set, v[:]
	case add:
		if before := c.points.find(w.key); before != nil {
			w = plus(before, w.delta)
		}
	}
	c.points.put(w)
}

func (c *record) isEmpty() bool { return c.points.count == 0 && c.cleared.isEmpty() }

// apply writes the group into the tables, in key order.
func (w *writer) apply(group *record) error {
	for r := range group.cleared.all() {
		w.clearRange.BindBytes(1, r.Begin)
		w.clearRange.BindBytes(2, r.End)
		if err := drain(w.clearRange); err != nil {
			return err
		}
	}
	for _, block := range group.points.blocks {
		for _, x := range block {
			if err := w.write(x); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) write(x *write) error {
	value := x.value
	switch x.kind {
	case remove:
		w.clear.BindBytes(1, x.key)
		return drain(w.clear)
	case add:
		base, err := w.conn.value(x.key)
		if err != nil {
			return err
		}
		value = sum(base, x.delta)
	}
	w.upsert.BindBytes(1, x.key)
	w.upsert.BindBytes(2, value)
	return drain(w.upsert)
}

// publish makes a committed group known to this process.
func (w *writer) publish(group *record) {
	w.reserved = w.owned.Load()
	pages := group.pages()
	for _, block := range group.points.blocks {
		for _, x := range block {
			if len(x.value) > recentValue {
				x.value = nil // the record needs the key alone
			}
		}
	}
	w.last.Load().next.Store(group)
	w.last.Store(group)
	w.db.recent.age()
	w.db.watches.fire(group)
	w.db.checkpoints.count(pages)
}

// indexBytes are kept free on the disk for the index of the log. SQLite extends it when the frames of a commit are in the
// log already: a disk that is full just then leaves a commit that may come true later, and so ends the handle.
const indexBytes = 256 << 10

// A disk with plentyBytes is taken to have room for plentyFor.
const (
	plentyBytes = 4 << 30
	plentyFor   = 10 * time.Millisecond
)

// reserveIndex fails on a disk that has no room for the group and the index.
func (w *writer) reserveIndex(group *record) error {
	if w.db.clock() < w.plentyUntil {
		return nil
	}
	free := w.db.free(w.db.files.real)
	if free >= plentyBytes {
		w.plentyUntil = w.db.clock() + int64(plentyFor)
	}
	if free >= int64(group.pages())*pageBytes+indexBytes {
		return nil
	}
	w.db.checkpoints.press()
	return fmt.Errorf("sqlite: commit %s: %s", w.db.path, hints[driver.ResultFull])
}

// pages is about how many pages c writes.
func (c *record) pages() int {
	pages := 1
	for range c.cleared.all() {
		pages++
	}
	for _, block := range c.points.blocks {
		for _, x := range block {
			pages += 1 + len(x.value)/pageBytes
		}
	}
	return pages
}

// failed ends a group that was not committed, or not for sure.
func (w *writer) failed(members []*tx, err error) {
	w.reserved = unknown // whether the row was written is not known either
	refuse(members, err)
	if undo := rollBack(w.conn.conn); undo != nil {
		w.db.fail(describe("roll back", w.db.path, undo))
	}
}

// metForeign notes that another process may have committed since our last group. The first group after Open, and the
// first after one that failed, cannot know.
func (w *writer) metForeign() {
	if w.reserved != unknown {
		w.shared.Store(w.db.clock())
	}
	w.db.watches.suspect()
	w.db.watches.wake()
}
