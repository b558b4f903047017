package dserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// Context is a handler's turn. It is valid until the handler returns and is not safe for concurrent use. What it is
// asked to do is part of the turn's commit: it happens once if the handler succeeds and never if not; an impossible
// request (a message too large) fails the message. What it is asked for later, as by a goroutine that kept it, does not
// happen: the consumer logs that as an error, with the place, once for each. It is not a context.Context on purpose: outside
// work belongs in HandleLocked, as a turn may run more than once.
// The zero Context may be used to test a handler; it does nothing.
type Context struct{ scope *turn.Scope }

// Context carries the turn's time limit and values, for logs and traces. Handles refuse it: what a handler sends with
// it would not be part of the commit.
func (c *Context) Context() context.Context { return c.scope.Context() }

// Self is this server.
func (c *Context) Self() Ref { return Ref(c.scope.Self()) }

// Cast sends m to a server, this one too, as part of this turn's commit. It is not refused when that server's queue is full
// (Settings.MaxQueued): else two full servers that send to each other could not go on. It inherits the headers of the message in
// hand (Header).
func (c *Context) Cast(to Ref, m any, opts ...Option) {
	if !c.scope.Usable() {
		return
	}
	message, how, err := c.prepareSend(to, m, opts)
	if err != nil {
		c.scope.Fail(err)
		return
	}
	if h := hooksOf(c.scope.Hooks()); h != nil {
		c.castThrough(h, to, message, how)
		return
	}
	c.scope.Send(tenant.NewParcel(tenant.Ref(to), how, tenant.NewEnvelope(message, "")))
}

func (c *Context) prepareSend(to Ref, m any, opts []Option) (tenant.Message, tenant.How, error) {
	how, err := options(opts)
	if err == nil {
		err = tenant.Ref(to).Check()
	}
	if err == nil {
		how.Headers, err = c.inherited(how.Headers)
	}
	if err != nil {
		return tenant.Message{}, how, err
	}
	message, err := encodeMessage(m)
	return message, how, err
}

// AfterCommit runs fn in this process after the commit, in order, at most once: for logs, metrics and hints to caches.
// fn must not touch the state, which belongs to the next turn by then. The functions of one server run one after the
// other in this process, those of a turn after those of the turns before. After each turn the server waits 10 ms for
// them; then it goes on, so that fn may call it. It waits longer, up to a second, when the functions of 500 turns wait,
// and they do return one after the other. When the functions of 1,000 turns have not returned, those of the next turn
// are dropped, and that is logged.
func (c *Context) AfterCommit(fn func()) {
	if c.scope.Usable() {
		c.scope.AfterCommit(fn)
	}
}

// Exec has a statement of SQL run in this turn's commit, on tables of the program's own, which lie in the same database as the
// servers: so a row of the program and the message's effect are committed together, once or not at all. The store is SQLite
// or PostgreSQL; elsewhere the message fails. In sql, which begins with INSERT, UPDATE, DELETE, MERGE, REPLACE, WITH or SELECT,
// $1, $2 and so on stand for args, of the types that database/sql takes.
//
//	ctx.Exec(`INSERT INTO shop.payments (booking, cents) VALUES ($1, $2)`, ctx.Self().ID, m.Cents)
//
// Statements run after the handler has returned, in the order of their turns' commits. Their results go nowhere: a handler
// decides by its state, and what a statement itself reads (INSERT ... SELECT) is what is committed by then.
//
// When one fails for good, as on a row that is there already, the message fails as by an error that its handler returns: the
// call's caller gets ErrStatement, a cast becomes a dead letter, and what other messages did is not concerned. When it may
// succeed later, as after a deadlock, or where others hold a row, that is a fault: the message is tried again, MaxAttempts
// times, a call that had joined a turn by way of the queue. The statements of a message may take two seconds, one of which
// may be a wait for a lock. All commits of the database file, or of the schema, wait for them, so name rows by a key, and never
// call a server from within a transaction of the program that has locked such rows: its turn waits for them.
//
// Statements have the rights of the connection that DServer has. On SQLite they cannot write DServer's own tables, and foreign
// keys are enforced. On PostgreSQL tables are looked up by the role's search_path, so name their schema; deferrable constraints
// are checked after each statement; what statements set (set_config) is undone after them, unless a pooler is between; and a
// turn with statements costs two round trips more.
func (c *Context) Exec(sql string, args ...any) {
	if !c.scope.Usable() {
		return
	}
	s, err := backend.NewStatement(sql, args...)
	if err != nil {
		c.scope.Fail(fmt.Errorf("dserver: Exec in the handler of %s: %w", c.message().Name, err))
		return
	}
	c.scope.Exec(s)
}

// Lock commits this handler's changes, takes the message off the queue, locks the server and hands the message to its
// HandleLocked. The reply that this handler returns is dropped: the caller is answered when the work has ended. When this
// handler returns an error, that error counts as in a handler without Lock, and the server is not locked. Unlock ends the
// work before its time.
func (c *Context) Lock() {
	if c.scope.Usable() {
		c.scope.Lock()
	}
}

// Unlock ends the locked work of this server, as part of this turn's commit. While work is under way, only messages with
// Priority and info are handled: so a timer with Priority ends what takes too long (SetTimer). The message of the work
// ends as if work had returned why as an *Error: its caller gets why, as *Error, and a message that was cast becomes a dead
// letter with why. Apply does not run, and a result that work may still return is refused. The context of the work ends
// soon, and messages that waited for the lock are handled at once. Either Unlock commits or the end of the work, never
// both. What work has done outside stays done: the payment that took too long may have been made.
//
// Unlock ends whatever work is under way, and does nothing when there is none. So keep in the state what the lock is for:
// set it where Lock is called, let the handler that unlocks look there, and in apply clear it and cancel the timer.
// Unlock is an error of the handler when why is nil, together with Lock, and in apply, which ends the work by returning.
// Do not send with Priority what locks: it waits for the lock, and what comes to unlock waits behind it.
func (c *Context) Unlock(why error) {
	if !c.scope.Usable() {
		return
	}
	if why == nil {
		c.scope.Fail(errors.New("dserver: Unlock without an error: the caller of the work has to be told something"))
		return
	}
	c.scope.Unlock(asError(why))
}

// Reset is DServer.Reset, after this message has been answered: how a server ends its life. Soon nothing of it is stored
// any more but its dead letters and, until they expire, its idempotency keys and the index rows of its timers.
func (c *Context) Reset() {
	if c.scope.Usable() {
		c.scope.Reset()
	}
}

// keptError is what Keep returns.
type keptError struct{ err error }

func (k *keptError) Error() string { return k.err.Error() }
func (k *keptError) Unwrap() error { return k.err }

// Keep makes a handler fail with err and yet commit what it changed and sent. Keep(nil) is nil.
func Keep(err error) error {
	if err == nil {
		return nil
	}
	return &keptError{err}
}

// refuseTurn is the error of using a handle with a handler's context.
func refuseTurn(ctx context.Context, what string) error {
	if !turn.IsTurn(ctx) {
		return nil
	}
	return fmt.Errorf("dserver: %s in a handler would not be part of its commit: use the handler's Context.Cast", what)
}
