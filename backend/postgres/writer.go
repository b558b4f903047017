package postgres

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend/internal/occ"
)

// writer commits groups of transactions ([occ.Queue]) on a connection of its own, each as one transaction of the server
// (commit.go).
type writer struct {
	*occ.Queue
	db *DB

	ahead atomic.Int64 // of the clock that goes on by itself (leap.go)

	// Of who leads.
	conn      *connection // nil where there is none
	session   int64       // of the attempts
	clock     int64       // as this process left it; unknown after a commit that failed, and on another connection
	attempt   int64       // the newest
	number    int64       // of its last member, to which it moves the clock
	last      int64       // the newest attempt that was committed
	forgotten int64       // the rows of attempts up to this one are removed
	hears     bool        // another session listened at the last commit
	caution               // of leaps

	// Of statements of the program's tables (statement.go).
	blame    occ.Blame
	suspects map[string]time.Time // at which the connection was lost, and when
	sums     sums
}

const unknown = -1

func newWriter(db *DB) *writer {
	w := &writer{db: db, clock: unknown, suspects: map[string]time.Time{}}
	w.Queue = occ.NewRemoteQueue(w.lead, db.log.Clock, grace)
	return w
}

// open makes the first connection, the schema and the session.
func (w *writer) open(ctx context.Context) (err error) {
	if w.conn, err = w.db.connect(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			w.drop()
		}
	}()
	if w.db.warning, err = w.conn.inspect(ctx, &w.db.options); err != nil {
		return err
	}
	if err = w.conn.createSchema(ctx, &w.db.options); err != nil {
		return err
	}
	return w.enter(ctx)
}

// lead commits the queue and returns how many it served.
func (w *writer) lead(_ context.Context, _ *occ.Tx) (served int) { return w.serve(w.ready()) }

// serve commits the queue, unless err is why nothing can be committed.
func (w *writer) serve(err error) (served int) {
	if w.db.log.IsShared() {
		w.Regather()
	}
	members := w.Pick()
	if err == nil {
		w.commit(members)
	} else {
		occ.Refuse(members, err)
	}
	served = len(members)
	w.Serve(members, nil)
	return served
}

// ready makes sure that there is a connection. It waits for the server as long as anybody waits for it, who may leave the
// queue meanwhile.
func (w *writer) ready() error {
	for n := 1; w.conn == nil; n++ {
		err := w.reconnect()
		switch {
		case err == nil:
		case w.db.life.Err() != nil:
			return closed()
		case w.Waiting() == 0:
			return occ.ErrLost // whoever comes just now begins again
		case !isLost(err):
			return err
		default:
			if err := w.db.pause(w.db.life, upTo(n)); err != nil {
				return closed()
			}
		}
	}
	if w.db.session.isGone.Load() {
		if err := w.enter(w.db.life); err != nil {
			w.drop()
			if isLost(err) {
				return occ.ErrLost
			}
			return err
		}
		w.clock = unknown // others may have committed since it was that of this process
	}
	return nil
}

// reconnect opens another connection, to a server that may be another one by now.
func (w *writer) reconnect() error {
	c, err := w.db.connect(w.db.life)
	if err != nil {
		return err
	}
	if _, err = c.inspect(w.db.life, &w.db.options); err != nil {
		c.close()
		return err
	}
	w.conn, w.clock = c, unknown // it may be another server, which lacks commits
	return nil
}

// drop gives up the connection.
func (w *writer) drop() {
	if w.conn != nil {
		w.conn.close()
		w.conn = nil
	}
}

// letEnd waits for a while until nobody commits.
func (w *writer) letEnd(patience time.Duration) {
	limit := time.Now().Add(patience)
	for w.IsLeading() && time.Now().Before(limit) {
		<-time.After(time.Millisecond)
	}
}

// close ends the connection, when nobody leads any more.
func (w *writer) close() { w.drop() }

// errNeedsLook ends a try to commit a group in one round trip: it did nothing, and the group goes by a look.
var errNeedsLook = errors.New("postgres: other processes committed")
