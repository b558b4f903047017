package postgres

import (
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// Commits. All of a schema, by whatever process, hold the clock's lock until they are durable and visible. The clock is
// the number of the newest commit, a sequence: who holds the lock reads and sets it. So the order of the numbers, and of
// the versionstamps that are made of them, is that in which commits become visible. A group is committed so:
//
//  1. While nobody else was seen to commit, its members are validated from memory (occ), as if no other process had
//     committed since, and one round trip does the rest: it takes the lock, finds the clock as this process left it, writes
//     and ends. Where the clock is another, nothing is done.
//  2. While others commit it is one round trip as well (leap.go): it takes the lock, compares what the members have read
//     with what is stored, leaps over the clock, writes and ends. The numbers are drawn before, from a clock that goes on
//     by itself. Where something is another, or the clock has passed the numbers, nothing is done.
//  3. What was not done goes in two steps: a transaction takes the lock and reads again what the members have read; they
//     are validated by value; the second round trip writes and commits. While the lock is held nobody else commits, so it
//     is held for a round trip longer.
//  4. With the writes goes a row of the session and the number of the attempt. A server that answers an ERROR has not
//     committed. After any other error nothing is known, nor after a warning, as where the wait for a synchronous standby
//     was cancelled.
//  5. What is unknown is resolved before anything else is committed or anybody is told: a transaction takes the lock, which
//     waits for an attempt that is under way; moves the clock beyond where the attempt expects it and beyond its numbers,
//     so that an attempt that comes later does nothing; and looks for the row. It commits itself, so all before it is
//     durable, on synchronous standbys too. This goes on until it is known, and the database is open.
//  6. If the row is not there, and the session's neither, others took this process for dead (session.go), or the server
//     was replaced by one that never had it: nothing can be known, and the answer is ErrCommitUnknown.
//  7. The clock that this process left is not trusted on another connection, and not without the row of its last commit:
//     after a failover that lost commits, others may have moved the clock to the same number.
//
// docs/decisions/0017-postgres.md and 0032-leaps.md have the attacks that made these rules, and what happens when something
// dies.

// commit commits members as one transaction of the server and sets their results.
func (w *writer) commit(members []*occ.Tx) {
	err := errNeedsLook
	var group *occ.Record
	switch {
	case executes(members):
	case w.db.log.IsShared():
		group, err = w.commitByLeaps(members)
	case w.clock != unknown:
		group, err = w.commitAtOnce(members)
	}
	if errors.Is(err, errNeedsLook) {
		group, err = w.commitAfterLook(members)
	}
	switch {
	case err != nil:
		for _, m := range members {
			if !m.IsDecided() { // those that have lost run again in any case
				m.Result = err
			}
		}
		return
	case group.IsEmpty(): // all have lost
		return
	}
	for _, m := range members {
		m.Committed(group)
		if m.Result == nil {
			w.db.counts.commits.Add(1)
		}
	}
	w.db.counts.groups.Add(1)
	w.db.log.Publish(group)
	w.db.watches.Fire(group)
}

// commitAtOnce is 1. It returns errNeedsLook where others have committed.
func (w *writer) commitAtOnce(members []*occ.Tx) (*occ.Record, error) {
	group := &occ.Record{}
	next, err := w.admit(members, group, w.clock+1, noLook{})
	if err != nil || group.IsEmpty() {
		return group, err
	}
	b := &bundle{c: w.conn}
	if w.conn.isPooled {
		b.add(w.conn.sql.settings)
	}
	b.add(w.conn.sql.lock)
	_, hears, err := w.send(b, group, move{sql: w.conn.sql.advance, clock: w.clock, number: next - 1, last: w.last})
	if codeOf(err) == codeMoved {
		w.clock = unknown
		w.db.log.SawForeign()
		return nil, errNeedsLook
	}
	return group, w.settle(hears, next-1, err)
}

// commitAfterLook is 3.
func (w *writer) commitAfterLook(members []*occ.Tx) (*occ.Record, error) {
	now, clock, isOurs, err := w.look(members)
	if err != nil {
		return nil, w.failed(err)
	}
	w.follow(clock)
	group := &occ.Record{Foreign: clock != w.clock || !isOurs}
	if group.Foreign {
		w.sums.forget()
		if w.clock != unknown {
			w.db.log.SawForeign() // the watches hear of it by themselves
		}
	}
	next, err := w.admit(members, group, clock+1, now)
	if err != nil {
		return nil, w.failed(err)
	}
	if group.IsEmpty() {
		w.rollBack()
		return group, nil
	}
	b := &bundle{c: w.conn, isBegun: true}
	_, hears, err := w.send(b, group, move{sql: b.c.sql.advance, clock: clock, number: next - 1, last: unknown})
	if isRefusal(err) {
		w.drop() // its transaction is over, and is still to be rolled back
		if mayBeOfStatements(err) && w.blame.Refuse(members, fmt.Errorf("postgres: %w", err)) {
			return group, err
		}
	}
	return group, w.settle(hears, next-1, err)
}

// rollBack ends a transaction of which nothing is to be committed.
func (w *writer) rollBack() {
	if w.conn.script(w.db.life, "ROLLBACK") != nil {
		w.drop() // which ends it as well
	}
}

// move is how a commit moves the clock: by this statement, from a clock to the number of its last member, where the row
// of this session's attempt last is there, if that is not unknown.
type move struct {
	sql                 string
	clock, number, last int64
}

// send adds a group to b, which has the lock or is about to take it, and sends it. It returns where the clock was, and
// whether others listen. A transaction that has begun ends with it.
func (w *writer) send(b *bundle, group *occ.Record, m move) (before int64, hears bool, err error) {
	if w.db.options.relaxed {
		b.add(b.c.sql.relax)
	}
	advance := len(b.sqls)
	w.addWrites(b, group, m)
	sums := -1
	if b.sqls[len(b.sqls)-1] == b.c.sql.add {
		sums = len(b.sqls) - 1
	}
	if b.isBegun {
		b.add(b.c.sql.commit)
	}
	b.c.warned = false
	results, err := b.send(w.db.life)
	if err != nil {
		return 0, false, &unsent{err}
	}
	for i := 0; results.NextResult(); i++ {
		result := results.ResultReader()
		if i == sums {
			w.sums.learn(result)
		}
		for result.NextRow() { // all are read, or the next would not be found
			if i == advance {
				row := result.Values()
				before, hears = int64Of(row[0]), int64Of(row[2]) > 0
			}
		}
	}
	return before, hears, results.Close()
}

// unsent is an error before a commit was sent.
type unsent struct{ cause error }

func (e *unsent) Error() string { return e.cause.Error() }
func (e *unsent) Unwrap() error { return e.cause }

// settle is what comes after a group was sent: it returns nil when it is committed.
func (w *writer) settle(hears bool, number int64, err error) error {
	var before *unsent
	switch {
	case err == nil && !w.conn.warned:
		w.clock, w.hears = number, hears
		w.follow(number)
		w.sums.committed()
		w.passed()
		return nil
	case errors.As(err, &before):
		return w.failed(before.cause)
	case isRefusal(err):
		return w.refused(err)
	case err == nil:
		err = errWarned
	}
	w.drop()
	if err := w.resolve(err); err != nil {
		return err
	}
	w.passed() // the clock is not the one that it set any more
	return nil
}

// passed notes that the newest attempt was committed, and with it what it has forgotten.
func (w *writer) passed() {
	if w.last-w.forgotten > forgetEvery {
		w.forgotten = w.last
	}
	w.last = w.attempt
}

var errWarned = errors.New("postgres: the server warned in a commit; it may not be on its standby")

// refused is what the members get whose commit the server has refused.
func (w *writer) refused(err error) error {
	if isRace(err) {
		return occ.ErrLost
	}
	return describe("commit", err)
}

// failed ends the look of a group, of which nothing was sent.
func (w *writer) failed(err error) error {
	w.drop()
	switch {
	case w.db.life.Err() != nil:
		return closed()
	case isOutage(err):
		w.db.counts.outages.Add(1)
		return occ.ErrLost
	}
	return w.refused(err)
}

// admit takes the members that may be committed into group, in their order, and numbers them from next on.
func (w *writer) admit(members []*occ.Tx, group *occ.Record, next int64, now occ.Current) (int64, error) {
	w.blame.Begin()
	for _, t := range members {
		lost, err := t.Lost(group, now)
		if err != nil {
			return 0, err
		}
		if lost {
			t.Result = occ.ErrLost
			continue
		}
		if ran, err := w.run(t); err != nil {
			return 0, err
		} else if !ran {
			continue
		}
		t.Result = nil
		group.Absorb(t, next)
		next++
	}
	return next, nil
}

// resolve finds out whether the newest attempt was committed, whose commit ended in cause (5, 6). It returns nil when it
// was, and ErrLost when it never will be.
func (w *writer) resolve(cause error) error {
	w.db.counts.unknown.Add(1)
	w.clock = unknown
	w.sums.forget()
	for n := 0; ; n++ {
		found, err := w.lookUp()
		switch {
		case err == nil && found > 0:
			w.db.counts.landed.Add(1)
			return nil
		case err == nil && found < 0:
			return errSessionGone
		case err == nil:
			w.db.counts.fenced.Add(1)
			return occ.ErrLost
		}
		w.drop()
		if w.db.life.Err() != nil {
			return unknownBy(fmt.Errorf("%w: %w", backend.ErrClosed, cause))
		}
		if !isLost(err) && !isOutage(err) && !isRace(err) {
			return unknownBy(errors.Join(cause, err))
		}
		_ = w.db.pause(w.db.life, upTo(n)) // its end shows in the next round
	}
}

func (w *writer) lookUp() (int64, error) {
	if w.conn == nil {
		if err := w.reconnect(); err != nil {
			return 0, err
		}
	}
	c, b := w.conn, &bundle{c: w.conn}
	b.add(c.sql.beginCommit) // whatever the isolation is elsewhere: what is looked for may be committed while it waits
	b.add(c.sql.lock)
	b.add(c.sql.raise, int64Parameter(w.number))
	b.add(c.sql.resolve, int64Parameter(w.session), int64Parameter(w.attempt))
	b.add(c.sql.commit)
	c.warned = false
	results, err := b.send(w.db.life)
	if err != nil {
		return 0, err
	}
	found := int64(0)
	for i := 0; results.NextResult(); i++ {
		if n := firstOf(results.ResultReader()); i == 3 { // all are read, or the next would not be found
			found = n
		}
	}
	err = results.Close()
	if err == nil && c.warned {
		err = &outage{errWarned}
	}
	return found, err
}
