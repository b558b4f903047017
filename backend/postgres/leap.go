package postgres

import (
	"errors"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// Commits in one round trip while others commit: 2 of commit.go. The clock's lock is not held while anything is under way
// between the server and this process, and a group waits for it once.
//
// The numbers of a group are drawn before it is sent, from a clock that this process keeps: it goes on with the time, from
// the newest number that was seen of the schema's. So of two processes whose groups come one after the other the second has
// the higher numbers, as far as they have heard of each other; else the server refuses it. It is a hybrid logical clock
// (Kulkarni and others, 2014) that needs no time of day.

// follow notes a number that the schema's clock has had.
func (w *writer) follow(number int64) {
	ahead := number - w.micros()
	for before := w.ahead.Load(); ahead > before && !w.ahead.CompareAndSwap(before, ahead); {
		before = w.ahead.Load()
	}
}

// maxHeard is how far a notification takes the clock of this process, at most, in microseconds. Whoever may connect to the
// database may notify, and a number near the end of all numbers would be the last. Who is further behind looks.
const maxHeard = 1_000_000

// hear notes a number of which a notification tells.
func (w *writer) hear(number int64) {
	if number-w.draw() < maxHeard {
		w.follow(number)
	}
}

// draw is a number for who commits now.
func (w *writer) draw() int64 { return w.micros() + w.ahead.Load() + 1 }

func (w *writer) micros() int64 { return w.db.log.Clock() / int64(time.Microsecond) }

// caution counts the groups that go by a look, after leaps that failed. Most would of members that race with others, and of
// a process that is so far from the server that it hears of the others late.
type caution struct {
	left   int // of these groups
	length int // how many they were after the latest leap that failed, and that one
}

const maxCaution = 16

// isCautious reports whether the next group goes by a look.
func (c *caution) isCautious() bool {
	c.left = max(0, c.left-1)
	return c.left > 0
}

func (c *caution) leapt(isDone bool) {
	if isDone {
		c.length = 0
		return
	}
	c.length = min(2*c.length+1, maxCaution)
	c.left = c.length
}

// maxLeaps is how often a group leaps that has nothing to be compared. It fails only where the clock has passed its numbers.
const maxLeaps = 3

// commitByLeaps is 2. It returns errNeedsLook where something is not as it is expected.
func (w *writer) commitByLeaps(members []*occ.Tx) (group *occ.Record, err error) {
	w.sums.forget()
	if w.isCautious() {
		return nil, errNeedsLook
	}
	for range maxLeaps {
		group, err = w.leap(members)
		if !errors.Is(err, errMoved) {
			break
		}
	}
	if errors.Is(err, errMoved) {
		w.leapt(false)
		return nil, errNeedsLook
	}
	return group, err
}

// errMoved ends a leap of which the numbers were not high enough.
var errMoved = errors.New("postgres: the clock has passed the numbers of a commit")

// leap commits members as one transaction of one round trip.
func (w *writer) leap(members []*occ.Tx) (*occ.Record, error) {
	first := max(w.draw(), w.clock+1)
	group := &occ.Record{Foreign: true}
	next, err := w.admit(members, group, first, nil)
	if err != nil || group.IsEmpty() {
		return group, err
	}
	e := expect(members)
	if e.isTooMuch() {
		return nil, errNeedsLook
	}
	b := &bundle{c: w.conn}
	b.begin() // all after the lock sees what was committed while it was waited for
	if w.conn.isPooled {
		b.add(w.conn.sql.settings)
	}
	b.add(w.conn.sql.lock)
	if !e.isEmpty() {
		e.compare(b)
	}
	before, hears, err := w.send(b, group, move{sql: w.conn.sql.leap, clock: first - 1, number: next - 1, last: unknown})
	if codeOf(err) == codeMoved {
		return nil, w.missed(e)
	}
	if isRefusal(err) {
		w.drop() // its transaction is over, and is still to be rolled back
	}
	if err == nil {
		w.leapt(true)
	}
	if err == nil && before != w.clock {
		w.db.log.SawForeign() // the watches hear of it by themselves
	}
	return group, w.settle(hears, next-1, err)
}

// missed ends the transaction of a leap that did nothing, and tells what comes next.
func (w *writer) missed(e *expected) error {
	w.rollBack()
	switch {
	case w.conn == nil:
		return occ.ErrLost
	case e.isEmpty():
		return errMoved
	}
	w.leapt(false)
	return errNeedsLook
}

// What a leap compares at most. More is read.
const (
	maxCompared      = 1000
	maxComparedBytes = 128 << 10
)

// expected is what members have read, for the server to compare with what is stored.
type expected struct {
	keys, values, begins, ends array
	counts                     array
	isLong                     bool // long keys are in it
}

func expect(members []*occ.Tx) *expected {
	e := &expected{counts: array{oid: oidInt8}}
	for _, m := range members {
		if !m.IsDecided() { // those that have lost run again in any case
			e.add(m)
		}
	}
	return e
}

func (e *expected) add(t *occ.Tx) {
	t.Expects(e.pair, func(r backend.Range, pairs []backend.KeyValue) {
		e.begins.add(r.Begin)
		e.ends.add(r.End)
		e.counts.add(int64Parameter(int64(len(pairs))))
		e.isLong = e.isLong || isLong(r)
		for _, kv := range pairs {
			e.pair(kv.Key, kv.Value)
		}
	})
}

func (e *expected) pair(key backend.Key, value []byte) {
	if e.isTooMuch() { // no more is copied for nothing
		return
	}
	e.isLong = len(key) >= headBytes
	e.keys.add(key)
	e.values.addOrNull(value)
}

func (e *expected) isEmpty() bool { return e.keys.count+e.begins.count == 0 }

// isTooMuch reports whether it is to be read instead.
func (e *expected) isTooMuch() bool {
	return e.isLong || e.keys.count+e.begins.count > maxCompared || len(e.keys.bytes)+len(e.values.bytes) > maxComparedBytes
}

// compare adds the comparison. A range is as it was when each of its pairs is there, and no other.
func (e *expected) compare(b *bundle) {
	b.add(b.c.sql.compare, e.keys.parameter(), e.values.parameter(),
		e.begins.parameter(), e.ends.parameter(), e.counts.parameter())
}
