package dserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/consumer"
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/stacks"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Consumer runs servers in this process. Its zero value is ready to use, and is not changed by Run. The Logger's writer
// is used by several goroutines at once.
type Consumer struct {
	Turns  int            // servers handled at a time; 128 per CPU, as a turn mostly waits for its commit
	Work   int            // locked work done at a time; 1,024. What is beyond waits on its queue, first come first served
	Cache  int64          // bytes of state kept; 64 MiB
	Labels []string       // whose servers it runs (DServer.Pin); nil is []string{""}, those that are not pinned
	Logger zerolog.Logger // the zero value warns through slog.Default; zerolog.Nop() is silent
	Slog   *slog.Logger   // instead of Logger, for programs that log with log/slog; its level decides what is written

	// Grace is how long Run waits for turns in hand and for locked work after its ctx ended; 10 seconds. The context of
	// locked work ends a tenth of it before, and at most a second. Two seconds later Run returns in any case, so what ends
	// the process by force (TimeoutStopSec, terminationGracePeriodSeconds) should leave it Grace and some seconds more.
	Grace time.Duration
}

// Run is Consumer{}.Run. It warns through slog.Default, as it has no Logger.
func Run(ctx context.Context, db backend.Database, types ...Type) error {
	return Consumer{}.Run(ctx, db, types...)
}

// Run serves the types until ctx ends, finishes the turns in hand and returns nil. It returns an error when the database
// has ended (backend.ErrClosed), a label cannot be one, Grace is negative, or both loggers are given, and panics when it is
// given no types, two of one name, or one without a handler. Damaged data (backend.ErrCorrupt) does not end it: what cannot be
// read is logged and left alone, and all else goes on.
//
// The end of ctx is a graceful shutdown. No locked work is begun any more. Run waits for the turns in hand and for locked
// work, for Grace: 10 seconds, unless it is set, and the context of locked work ends after 9 of them. Then it gives up the
// commits of what still runs, and waits 2 more seconds for it to return. A handler, an AfterCommit function or locked work
// that has not returned by then is left behind: Run logs which, and returns an error that says so. Nothing is lost by that,
// as its message is still in the mailbox or under the lock, and nothing of it is committed any more. But its goroutine is
// still in this process: end the process. Closing the database waits for such a goroutine for backend.MaxClose, and then
// leaves it behind as well.
func (c Consumer) Run(ctx context.Context, db backend.Database, types ...Type) error {
	if len(types) == 0 {
		_, place := stacks.Caller()
		panic("dserver: Run is given no types to serve, at " + place)
	}
	for _, label := range c.Labels {
		if err := tenant.CheckLabel(label); err != nil {
			return err
		}
	}
	if c.Grace < 0 {
		return fmt.Errorf("dserver: Run is given a Consumer.Grace of %v, which is negative", c.Grace)
	}
	logger, err := c.logger()
	if err != nil {
		return err
	}
	db, h := inside(db)
	o := consumer.Options{
		Turns: c.Turns, Work: c.Work, Cache: c.Cache, Grace: c.Grace, Labels: c.Labels, Logger: logger,
		Hooks: h.asHooks(),
	}
	return public(consumer.Run(ctx, db, o, definitions(types)...))
}

// logger is the logger that it was given. One that was given none warns through slog.Default: what has to be acted on must
// not be silent because nobody thought of a logger. Silence is zerolog.Nop(), which differs from the zero value in that it
// says so.
func (c Consumer) logger() (zerolog.Logger, error) {
	isGiven := !reflect.ValueOf(c.Logger).IsZero()
	switch {
	case isGiven && c.Slog != nil:
		return c.Logger, errors.New("dserver: Run is given a Consumer with both Logger and Slog: give it one of them")
	case isGiven:
		return c.Logger, nil
	case c.Slog != nil:
		return logs.ToSlog(c.Slog), nil
	}
	return logs.Default(), nil
}
