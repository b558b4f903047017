package postgres

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Sessions. A handle has a session: a row with a mark that moves, and a row for each of its commits whose outcome may
// still be asked for. A mark that has stood still for ten minutes, by the clock of whoever looks, is that of a process
// that died: its rows are removed. A process that finds its session gone takes a new one, and what it had under way then
// is unknown.
type session struct {
	isGone atomic.Bool  // the leader takes another one
	id     atomic.Int64 // the newest
}

// enter makes a session. The caller leads, or is alone.
func (w *writer) enter(ctx context.Context) error {
	c := w.conn
	me := rand.Int64()
	clock, err := c.one(ctx, c.sql.enter, int64Parameter(me))
	if err != nil {
		return judge("make a session", err)
	}
	w.session, w.attempt, w.last, w.forgotten, w.clock = me, 0, 0, -1, clock
	w.follow(clock)
	w.db.session.id.Store(me)
	w.db.session.isGone.Store(false)
	return nil
}

// mark is what a sweeper saw of a session.
type mark struct {
	beat int64
	at   time.Time // when it was first seen so
}

// keep moves the mark and sweeps those of the dead, until the database ends.
func (db *DB) keep() {
	ticker := time.NewTicker(db.options.sessionBeat)
	defer ticker.Stop()
	seen := map[int64]mark{}
	for {
		select {
		case <-db.life.Done():
			return
		case <-ticker.C:
		}
		if c, err := db.connect(db.life); err == nil { // the next beat tries again
			_ = db.beat(c, seen)
			c.close()
		}
	}
}

// beat moves the own mark, and removes the sessions whose marks have stood still.
func (db *DB) beat(c *connection, seen map[int64]mark) error {
	me := db.session.id.Load()
	moved := c.pg.ExecParams(db.life, db.options.expand("UPDATE $S.sessions SET beat = beat + 1 WHERE id = $1"),
		[][]byte{int64Parameter(me)}, nil, resultsBinary, resultsBinary).Read()
	if moved.Err != nil {
		return moved.Err
	}
	if moved.CommandTag.RowsAffected() == 0 {
		db.session.isGone.Store(true)
	}
	all := c.pg.ExecParams(db.life, db.options.expand("SELECT id, beat FROM $S.sessions"), nil, nil, nil, resultsBinary).Read()
	if all.Err != nil {
		return all.Err
	}
	now, alive := time.Now(), map[int64]bool{}
	for _, row := range all.Rows {
		id, beat := int64Of(row[0]), int64Of(row[1])
		alive[id] = true
		m, isKnown := seen[id]
		switch {
		case !isKnown || m.beat != beat:
			seen[id] = mark{beat, now}
		case now.Sub(m.at) > db.options.sessionDead:
			if err := db.bury(c, id, beat); err != nil {
				return err
			}
		}
	}
	for id := range seen {
		if !alive[id] {
			delete(seen, id)
		}
	}
	return nil
}

// bury removes a session whose mark is still at beat, and what it committed.
func (db *DB) bury(c *connection, id, beat int64) error {
	const remove = "WITH dead AS (DELETE FROM $S.sessions WHERE id = $1 AND beat = $2 RETURNING id) " +
		"DELETE FROM $S.commits USING dead WHERE session = dead.id"
	return c.pg.ExecParams(db.life, db.options.expand(remove), [][]byte{int64Parameter(id), int64Parameter(beat)}, nil,
		resultsBinary, nil).Read().Err
}

// leaveSession removes the own session, if the server answers.
func (db *DB) leaveSession() {
	w := db.writer
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastWait)
	defer cancel()
	const remove = "WITH me AS (DELETE FROM $S.sessions WHERE id = $1) DELETE FROM $S.commits WHERE session = $1"
	_ = w.conn.pg.ExecParams(ctx, db.options.expand(remove), [][]byte{int64Parameter(w.session)}, nil, // a sweeper does it else
		resultsBinary, nil).Read()
}
