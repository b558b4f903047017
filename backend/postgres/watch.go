package postgres

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dserver-go/dserver/backend"
)

// Watches. A commit of this process fires those of the keys that it wrote. Those of others are notified, once this process
// has told that it listens, which it does under the clock's lock so that no commit passes between. Nothing rests on
// notifications: once a second, and on each new connection, the clock is looked at, and where it has moved, by whomever,
// the watched keys are compared with what their watchers saw. So what was lost with a connection, or in a pooler, is
// found.
type ear struct { // of listen alone
	conn   *connection
	of     int64     // the session that told
	looked time.Time // at the clock
	clock  int64     // as it was then
}

const (
	listenPause = 500 * time.Millisecond // after a connection that failed
	listenIdle  = time.Minute            // without a watch
)

// listen serves the watches of this handle until the database ends. Without watches for a time it has no connection.
func (db *DB) listen() {
	defer db.deafen()
	var watched time.Time
	for db.life.Err() == nil {
		switch {
		case db.watches.IsWatching():
			watched = time.Now()
		case time.Since(watched) > listenIdle:
			db.deafen()
			select {
			case <-db.life.Done():
			case <-db.watches.Kick():
			}
			continue
		}
		if err := db.listenOnce(); err != nil {
			db.deafen()
			db.watches.Suspect()
			_ = db.pause(db.life, listenPause) // its end ends the loop
		}
	}
}

func (db *DB) deafen() {
	if db.ear.conn != nil {
		db.ear.conn.close()
		db.ear.conn, db.ear.of = nil, 0
	}
}

// listenOnce waits for a notification, a kick or the time of a look.
func (db *DB) listenOnce() error {
	if db.ear.conn == nil {
		if err := db.beginToListen(); err != nil {
			return err
		}
	}
	isKicked, isNotified, err := db.wait()
	switch {
	case err != nil || db.life.Err() != nil:
		return err
	case isKicked || isNotified:
		return db.compareDue()
	}
	return db.lookAround()
}

// wait waits for a notification or a kick, no longer than until the time of a look.
func (db *DB) wait() (isKicked, isNotified bool, err error) {
	ctx, cancel := context.WithDeadline(db.life, db.ear.looked.Add(db.options.lookEvery))
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-db.watches.Kick():
			isKicked = true
			cancel()
		case <-ctx.Done():
		}
	}()
	err = db.ear.conn.pg.WaitForNotification(ctx)
	isNotified = err == nil
	if ctx.Err() != nil {
		err = nil // it was ended; the connection is sound
	}
	cancel()
	<-watched // it may have taken a kick at the last moment
	return isKicked, isNotified, err
}

// beginToListen opens the connection. From its end on no commit of another process is missed; what came before is found
// by the comparison that it asks for.
func (db *DB) beginToListen() error {
	c, err := db.connectTo(db.life, db.listens)
	if err != nil {
		return err
	}
	db.ear.conn, db.ear.clock = c, unknown
	if c.isPooled { // others would get what it hears
		return db.lookAround()
	}
	if err := c.script(db.life, "LISTEN "+channel(db.options.schema)); err != nil {
		return err
	}
	return db.lookAround()
}

// tell tells in the name of the session that it listens. What is committed after that is notified.
func (db *DB) tell() error {
	c, me := db.ear.conn, db.session.id.Load()
	found, err := c.one(db.life, c.sql.hear, int64Parameter(me))
	if err != nil {
		return err
	}
	if found < 0 {
		db.session.isGone.Store(true) // the next commit makes another
	}
	db.ear.of = me
	db.watches.Suspect()
	return nil
}

// heard is called for each notification, by the goroutine that reads the connection.
func (db *DB) heard(_ *pgconn.PgConn, n *pgconn.Notification) {
	from, rest, _ := strings.Cut(n.Payload, " ")
	number, bells, _ := strings.Cut(rest, " ")
	if from == strconv.FormatInt(db.session.id.Load(), 10) {
		return
	}
	db.log.SawForeign()
	if clock, err := strconv.ParseInt(number, 10, 64); err == nil {
		db.writer.hear(clock)
	}
	if bells == "*" {
		db.watches.Suspect()
		db.watches.Wake()
		return
	}
	rang := map[uint32]bool{}
	for _, word := range strings.Split(bells, ",") {
		if b, err := strconv.ParseUint(word, 36, 32); err == nil {
			rang[uint32(b)] = true
		}
	}
	db.watches.Foreign(func(key string) bool { return rang[bell(key)] })
}

// lookAround compares the watched keys where anything was committed since the last time.
func (db *DB) lookAround() error {
	c := db.ear.conn
	if !c.isPooled && db.ear.of != db.session.id.Load() {
		if err := db.tell(); err != nil {
			return err
		}
	}
	db.ear.looked = time.Now()
	clock, err := c.one(db.life, c.sql.look)
	if err != nil {
		return err
	}
	if clock != db.ear.clock {
		db.watches.Suspect()
	}
	if err := db.compareDue(); err != nil {
		return err
	}
	db.ear.clock = clock
	db.writer.follow(clock)
	return nil
}

// compareDue compares the watched keys if a commit of another process came that did not name what it changed, or that
// came while a watch was made.
func (db *DB) compareDue() error {
	keys := db.watches.Due()
	if len(keys) == 0 {
		return nil
	}
	err := db.compare(keys)
	if err != nil {
		db.watches.Suspect() // again
	}
	return err
}

// compare fires the watches whose keys are not as their watchers saw them.
func (db *DB) compare(keys []string) error {
	c := db.ear.conn
	var short array
	values := map[string][]byte{}
	for _, key := range keys {
		if len(key) < headBytes {
			short.add([]byte(key))
			continue
		}
		q := &query{r: backend.Key(key).Only(), isKey: true}
		if err := c.read(db.life, []*query{q}, false); err != nil {
			return err
		}
		values[key] = q.value
	}
	if err := c.prepare(db.life, c.sql.keys); err != nil {
		return err
	}
	var b pgconn.Batch
	c.add(&b, c.sql.keys, short.parameter())
	results := c.pg.ExecBatch(db.life, &b)
	if results.NextResult() {
		for _, kv := range pairsOf(results.ResultReader()) {
			values[string(kv.Key)] = kv.Value
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	for _, key := range keys {
		db.watches.FireOthers(key, values[key])
	}
	return nil
}
