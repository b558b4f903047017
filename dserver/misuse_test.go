package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// line is the place of the line that calls it.
func line() string {
	_, file, number, _ := runtime.Caller(1)
	return fmt.Sprintf("%s:%d", filepath.Base(file), number)
}

// A Context that was kept does nothing any more. That is no secret: each place that uses it is logged, once.
func TestContextUsedAfterItsHandlerIsLoggedOnceForEachPlace(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		kept := make(chan *dserver.Context, 1)
		def := journal.With(dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Write) error {
			kept <- ctx
			j.write(m.Line)
			return nil
		}))
		log := &logged{t: t}
		run(t, dserver.Consumer{Logger: log.logger()}, db, def)
		s := def.At(db, "a")
		must(t, s.Call(ctx, Write{"1"}, nil))
		c := <-kept
		var places []string
		for range 3 {
			c.Cast(s.Ref(), Write{"late"})
			places = []string{line()}
			dserver.From[int]("x").Reply(c, 1)
			places = append(places, line())
			c.AfterCommit(func() { t.Error("it ran") })
		}
		log.mu.Lock()
		defer log.mu.Unlock()
		var found []map[string]any
		for _, l := range log.lines {
			if l["message"] == "a Context was used after its handler's turn: what it was asked for does not happen" {
				found = append(found, l)
			}
		}
		if len(found) != 3 {
			t.Fatalf("%d lines: %v", len(found), found)
		}
		for i, before := range places { // the line before the one that was asked
			file, number, _ := strings.Cut(before, ":")
			var n int
			_, err := fmt.Sscan(number, &n)
			must(t, err)
			if want := fmt.Sprintf("/%s:%d", file, n-1); !strings.HasSuffix(fmt.Sprint(found[i]["place"]), want) ||
				found[i]["level"] != "error" || found[i]["server"] != "journal/a" ||
				!strings.Contains(fmt.Sprint(found[i]["function"]), "TestContextUsedAfterItsHandler") {
				t.Errorf("the line about %s is %v", want, found[i])
			}
		}
		expectLinesOf(t, db, "a", "1")
	})
}

func expectLinesOf(t testing.TB, db backend.Database, id string, want ...string) {
	t.Helper()
	s, err := journal.At(db, id).State(context.Background())
	must(t, err)
	expectLines(t, s.Lines, want...)
}

// The zero Context is for tests of handlers: it is silent.
func TestZeroContextIsSilent(*testing.T) {
	new(dserver.Context).Cast(dserver.Ref{}, nil)
}

func TestRunWithoutTypesIsRefused(t *testing.T) {
	defer func() {
		_, file, _, _ := runtime.Caller(0)
		if p := fmt.Sprint(recover()); !strings.Contains(p, "no types") || !strings.Contains(p, filepath.Base(file)) {
			t.Errorf("it panicked with %s", p)
		}
	}()
	_ = dserver.Run(t.Context(), newStore(t).Open())
	t.Error("it returned")
}

// A call that nobody could ever answer says why when its time is over, and only such a call.
func TestCallThatNobodyAnswersTellsThatNobodyRunsItsType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { callNobody(t, newStore(t, journal, ledgers).Open) })
	eachRealStore(t, callNobody)
}

func callNobody(t *testing.T, open func() backend.Database) {
	const hint = `no process that runs "journal" was seen`
	try := func(d time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		return journal.At(open(), "a").Call(ctx, Write{"1"}, nil)
	}
	call := func(hinted bool) {
		t.Helper()
		d := 50 * time.Millisecond
		err := try(d)
		for strings.Contains(err.Error(), "nothing was sent") && d < patience { // on a machine that is busy
			d *= 2
			err = try(d)
		}
		if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), hint) != hinted {
			t.Errorf("the call ended with %v; hinted: %v", err, hinted)
		}
	}
	serve := func(def dserver.Type) (stop func()) {
		t.Helper()
		db := open()
		before := processes(t, db)
		stop = run(t, dserver.Consumer{}, db, def)
		eventually(t, "it is there", func() bool { return processes(t, db) > before })
		return stop
	}
	call(true)
	stop := serve(ledgers) // another type
	call(true)
	stop()
	over := make(chan struct{})
	serve(journal.With(dserver.HandleCast(func(*dserver.Context, *Journal, Write) error {
		<-over
		return nil
	})))
	t.Cleanup(func() { close(over) }) // before the consumer is told to end
	call(false)                       // somebody is slow
}

// processes is how many have a record.
func processes(t testing.TB, db backend.Database) (n int) {
	t.Helper()
	must(t, db.Read(within(t), func(tx backend.ReadTx) error {
		pairs, err := tx.GetRange(backend.NewKey("p").Below(), backend.RangeOptions{}).Get()
		n = len(pairs)
		return err
	}))
	return n
}

// Who gives up by hand is not told, and not kept waiting.
func TestCallThatIsCancelledGetsNoHint(t *testing.T) {
	db := newStore(t, journal).Open()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	err := journal.At(db, "a").Call(ctx, Write{"1"}, nil)
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "was seen") {
		t.Errorf("it ended with %v", err)
	}
}

// CallSelf is a call whose handler calls its own server, with a context that is not its own.
type CallSelf struct {
	dserver.Returns[int]
	How string
}

// selfish is journals with such handlers. What they call through is set before they run.
func selfish(s **dserver.DServer[Journal], goOn <-chan struct{}) *dserver.Definition[Journal] {
	return journals.With(
		dserver.Settings[Journal]{MaxAttempts: 1},
		dserver.HandleCall(func(_ *dserver.Context, _ *Journal, m CallSelf) (int, error) {
			ctx := context.Background()
			switch m.How {
			case "with a key":
				return dserver.Call(ctx, *s, Append{Line: "self"}, dserver.Once("self"))
			case "ahead":
				return dserver.Call(ctx, *s, Append{Line: "self"}, dserver.Priority())
			case "by a goroutine":
				answered := make(chan struct{})
				go func() {
					defer close(answered)
					_ = (*s).Call(ctx, Append{Line: "self"}, nil)
				}()
				<-answered
				return 0, nil
			case "never":
				<-goOn
				return 0, nil
			}
			return dserver.Call(ctx, *s, Append{Line: "self"})
		}))
}

const instead = "a handler must not call its own server: use the state that it is given, or Context.Cast"

// A handler that calls its own server with a context that is not its own would wait for itself: it is told at once.
func TestHandlerThatCallsItsOwnServerIsTold(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		var s *dserver.DServer[Journal]
		types := selfish(&s, nil)
		db, far := open(), open()
		s = types.At(db, "a")
		run(t, dserver.Consumer{}, db, types)
		for _, how := range []string{"plainly", "with a key", "ahead"} {
			for name, db := range map[string]backend.Database{"its process": db, "another": far} {
				_, err := dserver.Call(within(t), types.At(db, "a"), CallSelf{How: how})
				if err == nil || !strings.Contains(err.Error(), "nothing was sent: the call of journal/a would wait for itself: "+instead) {
					t.Fatalf("%s, for a call of %s: %v", how, name, err)
				}
			}
		}
		expectLines(t, lines(t, s))
	})
}

// When it is a goroutine of the handler that calls, the overrun tells; and only then, whoever else waits for the server.
func TestOverrunTellsOfACallOfItsOwnServer(t *testing.T) {
	for how, told := range map[string]bool{"by a goroutine": true, "never": false} {
		synctest.Test(t, func(t *testing.T) {
			var s *dserver.DServer[Journal]
			goOn := make(chan struct{})
			types := selfish(&s, goOn)
			store := newStore(t, types)
			db := store.Open()
			s = types.At(db, "a")
			stop := run(t, dserver.Consumer{}, db, types)
			time.AfterFunc(time.Second, func() { _ = s.Call(context.Background(), Append{Line: "innocent"}, nil) })
			_, err := dserver.Call(context.Background(), types.At(store.Open(), "a"), CallSelf{How: how})
			if !errors.Is(err, dserver.ErrFault) || !strings.Contains(err.Error(), "did not return within 4s") ||
				strings.Contains(err.Error(), ": it waits for a call of journal/a, which is itself: "+instead) != told {
				t.Errorf("%s: %v", how, err)
			}
			close(goOn)
			<-time.After(time.Second) // the calls are answered
			stop()
		})
	}
}
