package sqlite

import (
	"errors"
	"fmt"
	"time"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend/internal/occ"
)

// blockNumbers is how many commit numbers are reserved at a time.
const blockNumbers = 1 << 16

// lostNumbers are left out by the first group of a handle. A power cut takes commits that are not synced, with the row that
// reserved their numbers, and somebody may remember these. That is a block for each group, of which each process has no more
// than maxUnsynced in a row: so there would have to be a thousand processes.
const lostNumbers = 1000 * maxUnsynced * blockNumbers

// commit commits members as one SQLite transaction and sets their results. The write lock is held.
func (w *writer) commit(members []*occ.Tx) {
	group, err := w.gatherWrites(members)
	switch {
	case err != nil:
		w.notGathered(members, err)
		return
	case group.IsEmpty(): // all have lost
		err = drain(w.undo)
	default:
		if err := w.reserveIndex(group); err != nil {
			w.failed(members, err)
			return
		}
		err = drain(w.end)
		w.shares.release(w.db.log.Clock())
		if err != nil && driver.ErrCode(err).ToPrimary() == driver.ResultConstraint &&
			w.blame.Refuse(members, describeStatement(err)) { // a deferred constraint of the program's tables
			w.abandon()
			return
		}
		if err == nil {
			notify(w.db.files.log())
		}
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
	if !group.IsEmpty() {
		for _, m := range members {
			m.Committed(group)
		}
		w.publish(group)
	}
}

// notGathered ends a group that met an error before its commit.
func (w *writer) notGathered(members []*occ.Tx, err error) {
	var over *ended
	if errors.As(err, &over) {
		isDecided := over.member.IsDecided()
		w.failed(members, occ.ErrLost)
		if isDecided {
			over.member.Result = over.cause
		} else {
			w.blame.Seek()
		}
		return
	}
	w.failed(members, w.db.judge("write", err, closedBy))
}

// gatherWrites validates the members, and applies what those write that may be committed.
func (w *writer) gatherWrites(members []*occ.Tx) (*occ.Record, error) {
	row, err := w.row()
	if err != nil {
		return nil, err
	}
	group := &occ.Record{Foreign: row != w.reserved}
	if group.Foreign {
		w.metForeign()
	}
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
func (w *writer) admit(members []*occ.Tx, group *occ.Record, row int64) error {
	next := w.next
	if group.Foreign && w.reserved == unknown && row > 0 {
		row += lostNumbers
	}
	if group.Foreign {
		next = row + 1
	}
	first := next
	w.blame.Begin()
	w.executed = 0
	for _, t := range members {
		lost, err := t.Lost(group, w.conn)
		if err != nil {
			return err
		}
		if lost {
			t.Result = occ.ErrLost
			continue
		}
		if ran, err := w.run(t); err != nil {
			return err
		} else if !ran {
			continue
		}
		t.Result = nil
		group.Absorb(t, next)
		next++
	}
	w.next = next
	if next == first || !group.Foreign && next <= row+1 {
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

// apply writes the group into the tables, in key order.
func (w *writer) apply(group *occ.Record) error {
	for r := range group.Cleared() {
		w.clearRange.BindBytes(1, r.Begin)
		w.clearRange.BindBytes(2, r.End)
		if err := drain(w.clearRange); err != nil {
			return err
		}
	}
	for x := range group.Writes() {
		if err := w.write(x); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) write(x *occ.Write) error {
	value := x.Value
	switch x.Kind {
	case occ.Remove:
		w.clear.BindBytes(1, x.Key)
		return drain(w.clear)
	case occ.Add:
		base, err := w.conn.Value(x.Key)
		if err != nil {
			return err
		}
		value = occ.Sum(base, x.Delta)
	}
	w.upsert.BindBytes(1, x.Key)
	w.upsert.BindBytes(2, value)
	return drain(w.upsert)
}

// publish makes a committed group known to this process.
func (w *writer) publish(group *occ.Record) {
	w.reserved = w.owned.Load()
	if w.unsynced++; w.isSynced {
		w.unsynced = 0
	}
	pages := w.pagesOf(group) // before its values are dropped
	w.db.log.Publish(group)
	w.db.watches.Fire(group)
	w.db.checkpoints.count(pages)
	if w.blame.HasRun() {
		if w.groups++; w.groups%lookEvery == 0 {
			w.db.checkpoints.want()
		}
	}
}

// lookEvery is how many groups with statements of the program's there are until it is looked how long the log is: what they
// write is known about alone.
const lookEvery = 16

// indexBytes are kept free on the disk for the index of the log. SQLite extends it when the frames of a commit are in the
// log already: a disk that is full just then leaves a commit that may come true later, and so ends the handle.
const indexBytes = 256 << 10

// A disk with plentyBytes is taken to have room for plentyFor.
const (
	plentyBytes = 4 << 30
	plentyFor   = 10 * time.Millisecond
)

// reserveIndex fails on a disk that has no room for the group and the index.
func (w *writer) reserveIndex(group *occ.Record) error {
	if w.db.log.Clock() < w.plentyUntil {
		return nil
	}
	free := w.db.free(w.db.files.real)
	if free >= plentyBytes {
		w.plentyUntil = w.db.log.Clock() + int64(plentyFor)
	}
	if free >= int64(w.pagesOf(group))*pageBytes+indexBytes {
		return nil
	}
	w.db.checkpoints.press()
	return fmt.Errorf("sqlite: commit %s: %s", w.db.path, hints[driver.ResultFull])
}

// pagesOf is about how many pages a group writes.
func (w *writer) pagesOf(group *occ.Record) int {
	pages := 1 + w.executed/pageBytes
	for range group.Cleared() {
		pages++
	}
	for x := range group.Writes() {
		pages += 1 + len(x.Value)/pageBytes
	}
	return pages
}

// failed ends a group that was not committed, or not for sure.
func (w *writer) failed(members []*occ.Tx, err error) {
	occ.Refuse(members, err)
	w.abandon()
}

// abandon rolls a group back.
func (w *writer) abandon() {
	w.reserved = unknown // whether the row was written is not known either
	w.owned.Store(unknown)
	w.db.watches.Suspect() // who reserved the same numbers since may have been taken for us
	if undo := rollBack(w.conn.conn); undo != nil {
		w.db.fail(describe("roll back", w.db.path, undo))
	}
}

// metForeign notes that another process may have committed since our last group. The first group after Open, and the
// first after one that failed, cannot know.
func (w *writer) metForeign() {
	if w.reserved != unknown {
		w.db.log.SawForeign()
	}
	w.db.watches.Suspect()
	if !w.db.hears.Load() { // the look comes with the notice of this commit else
		w.db.watches.Wake()
	}
}
