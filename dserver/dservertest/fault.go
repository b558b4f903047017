package dservertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/internal/kit"
	"github.com/dserver-go/dserver/internal/consumer"
)

// EachFault runs a program once without a fault, and then with each kind of fault at its first commit, at its second,
// and so on until the program ends before the fault comes. The kinds: a commit that loses a race; one whose outcome is
// not known for a while, or not at all, though it happened, or though it did not; a process that dies before or after
// it. A process that died is started again.
//
//	dservertest.EachFault(t, func(t *testing.T, f *dservertest.Faults) {
//		f.Start(Accounts)
//		f.Do(func(ctx context.Context, db backend.Database) error {
//			return Accounts.At(db, "a").Cast(ctx, Deposit{5}, dserver.Once("salary"))
//		})
//		f.Settle()
//		// the account has 5 now, whatever happened
//	})
//
// Each run is a subtest in a synctest bubble of its own, named for its fault: what failed is run again by
// -run 'TestName/crash-after/3'.
func EachFault(t *testing.T, program func(t *testing.T, f *Faults)) {
	t.Helper()
	backendtest.EachFault(t, func(t *testing.T, fault *backendtest.Fault) {
		synctest.Test(t, func(t *testing.T) {
			program(t, &Faults{t: t, open: fault.Open, context: fault.Context, what: fault.String, begun: synctest.Wait})
		})
	})
}

// Chaos starts the types on a database in memory of which each commit meets a fault, of any of EachFault's kinds, with
// probability p. It is for programs of many goroutines that run for a while. A test that fails prints its seed. In a
// synctest bubble the pauses that a dead process makes take no time.
func Chaos(t testing.TB, p float64, types ...dserver.Type) *Faults {
	t.Helper()
	what := func() string { return fmt.Sprintf("a fault at each commit with probability %v", p) }
	f := &Faults{t: t, open: backendtest.Chaos(backendtest.Model, p)(t), context: context.Background, what: what}
	f.Start(types...)
	return f
}

// Faults is a process that meets faults, and is started again when it dies.
type Faults struct {
	t       testing.TB
	open    func() backend.Database
	context func() context.Context
	what    func() string
	begun   func() // waits for what a consumer commits when it begins, so that the commits have the same order in each run

	meter meter // of all its databases

	mu sync.Mutex // guards db
	db backend.Database
}

// Start runs a consumer of the types until the test ends.
func (f *Faults) Start(types ...dserver.Type) {
	f.t.Helper()
	if f.db != nil {
		f.t.Fatal("dservertest: Faults.Start is called twice")
	}
	f.restart(nil)
	joined := make(chan struct{})
	how := consumer.Options{Cold: true, Logger: zerolog.Nop(), Joined: sync.OnceFunc(func() { close(joined) })}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	f.t.Cleanup(func() {
		cancel()
		<-ended
		f.check(types)
	})
	go func() {
		defer close(ended)
		f.serve(ctx, how, types)
	}()
	select {
	case <-joined:
	case <-ended:
	}
	if f.begun != nil {
		f.begun()
	}
}

// serve runs the consumer, again and again as it dies. What it complains of is the faults.
func (f *Faults) serve(ctx context.Context, how consumer.Options, types []dserver.Type) {
	for ctx.Err() == nil {
		db := f.database()
		if err := consumer.Run(ctx, db, how, kit.Definitions(types)...); err != nil && !errors.Is(err, backend.ErrClosed) {
			f.t.Errorf("dservertest: %v: the consumer ended: %v", f, err)
			return
		}
		f.restart(db)
	}
}

// restart opens a new database in place of one that has died.
func (f *Faults) restart(dead backend.Database) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.db == dead {
		f.db = &metered{Database: f.open(), meter: &f.meter}
	}
}

func (f *Faults) database() backend.Database {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.db
}

// check looks through the database by a handle without a consumer. A handle may die of the last fault.
func (f *Faults) check(types []dserver.Type) {
	for {
		err := dserver.Check(context.Background(), f.open(), types...)
		if err == nil {
			return
		}
		if !errors.Is(err, backend.ErrClosed) {
			f.t.Errorf("dservertest: %v: what is stored is damaged: %v", f, err)
			return
		}
	}
}

// Do calls fn, with the database of the process and a context, until it does not meet a fault: after one it is not
// known whether what it sent was sent, so a program whose messages must not count twice sends with dserver.Once. Do
// returns nil, or the error with which a server refused, or another one, which fails the test. It may be called by many
// goroutines.
func (f *Faults) Do(fn func(ctx context.Context, db backend.Database) error) error {
	f.t.Helper()
	for range mostTries {
		err := fn(f.context(), f.database())
		var refused *dserver.Error
		switch {
		case err == nil:
			return nil
		case isFault(err):
			<-time.After(restartPause)
		case errors.As(err, &refused):
			return err
		default:
			f.t.Errorf("dservertest: %v: %v", f, err)
			return err
		}
	}
	f.t.Errorf("dservertest: %v: it did not succeed in %d tries", f, mostTries)
	return errTries
}

// Settle waits until all that was sent has been handled, as the function Settle does, whatever dies meanwhile.
func (f *Faults) Settle() {
	f.t.Helper()
	settle(f.t, f.meter.begin(), func() (busy dserver.Ref, err error) {
		err = f.Do(func(ctx context.Context, db backend.Database) error {
			busy, err = busyServer(ctx, db)
			return err
		})
		return busy, err
	})
}

var errTries = errors.New("dservertest: tried too often")

const (
	mostTries    = 1000
	restartPause = 10 * time.Millisecond // in which a process that died is started again
)

// isFault reports whether an error is of those that a program has to live with.
func isFault(err error) bool {
	for _, fault := range []error{backend.ErrCommitUnknown, backend.ErrClosed, context.Canceled, dserver.ErrReplyLost} {
		if errors.Is(err, fault) {
			return true
		}
	}
	return false
}

// String tells the fault, for messages.
func (f *Faults) String() string { return f.what() }
