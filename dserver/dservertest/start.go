package dservertest

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/internal/kit"
	"github.com/dserver-go/dserver/internal/consumer"
)

// Start serves the types from a database in memory until the test ends. Every turn decodes its state from the store,
// so that what does not survive being stored fails here and not after a restart. When Start returns, the consumer runs.
// It may be used in a synctest bubble. What the consumer warns of, such as handlers that panic, is in the test's log.
func Start(t testing.TB, types ...dserver.Type) backend.Database {
	t.Helper()
	db := &metered{Database: open(t, types), meter: new(meter)}
	t.Cleanup(serve(t, t.Output(), db, consumer.Options{Cold: true}, types))
	return db
}

// StartIntercepted is Start of a program that opens its store with interceptors ([dserver.Intercept]): they are around the sends of
// those who use the database that it returns, around the handlers and the locked work of the types, and are told of turns. So a
// test sees what the program's tracing, checks or limits do, in memory and in virtual time.
func StartIntercepted(t testing.TB, interceptors []dserver.Interceptor, types ...dserver.Type) backend.Database {
	t.Helper()
	db := dserver.Intercept(&metered{Database: open(t, types), meter: new(meter)}, interceptors...)
	inner, hooks := kit.Inside(db)
	t.Cleanup(serve(t, t.Output(), inner, consumer.Options{Cold: true, Hooks: hooks}, types))
	return db
}

// open makes a database that is checked at the end of the test, after consumers that were started later have ended.
func open(t testing.TB, types []dserver.Type) backend.Database {
	t.Helper()
	store := backendtest.NewStore()
	t.Cleanup(func() { check(t, store, types) })
	return store.Open()
}

// check opens a handle of its own, as the test may have closed its database.
func check(t testing.TB, store *backendtest.Store, types []dserver.Type) {
	db := store.Open()
	defer db.Close()
	if err := dserver.Check(context.Background(), db, types...); err != nil {
		t.Errorf("dservertest: what is stored is damaged: %v", err)
	}
}

// serve runs a consumer, which writes its log to out, until stop is called, which returns when it has ended.
func serve(t testing.TB, out io.Writer, db backend.Database, how consumer.Options, types []dserver.Type) (stop func()) {
	t.Helper()
	joined := make(chan struct{})
	if hand := how.Steps; hand != nil {
		how.Steps = func(s *consumer.Stepper) { hand(s); close(joined) }
	} else {
		how.Joined = func() { close(joined) }
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	how.Logger = logger(out)
	go func() {
		defer close(ended) // also when a handler ends its goroutine, or Run panics
		ended <- consumer.Run(ctx, db, how, kit.Definitions(types)...)
	}()
	select {
	case <-joined:
	case err := <-ended:
		cancel()
		t.Fatalf("dservertest: the consumer ended at once: %v", err)
	}
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, backend.ErrClosed) {
			t.Errorf("dservertest: the consumer ended: %v", err)
		}
	})
}

func logger(out io.Writer) zerolog.Logger {
	plain := zerolog.ConsoleWriter{Out: out, NoColor: true, PartsExclude: []string{zerolog.TimestampFieldName}}
	return zerolog.New(plain).Level(zerolog.WarnLevel)
}
