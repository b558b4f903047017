package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/queue"
)

// callers call a server from a process without a consumer, and wait until all of them are queued.
func callers(t *testing.T, db backend.Database, count int, m any) (answers chan error) {
	t.Helper()
	s := ledgers.Ref("x").At(db)
	answers = make(chan error, count)
	before, ctx := statusOf(t, s).Queued, within(t)
	for range count {
		go func() { answers <- s.Call(ctx, m, nil) }()
	}
	eventually(t, "all calls are queued", func() bool { return statusOf(t, s).Queued == before+int64(count) })
	return answers
}

// callOf is a call as it is on a queue.
func callOf(t *testing.T, from string) []byte {
	t.Helper()
	item, err := cbor.Marshal(map[string]any{"name": "Read", "body": cbor.RawMessage{0xa0}, "from": from})
	must(t, err)
	return item
}

func expectKilled(t *testing.T, answers chan error) {
	t.Helper()
	for range cap(answers) {
		if err := <-answers; !errors.Is(err, dserver.ErrKilled) {
			t.Fatalf("a caller got %v", err)
		}
	}
}

// reading is a database that tells when it is read for the first time.
type reading struct {
	backend.Database
	once  sync.Once
	began chan struct{}
}

func (r *reading) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	r.once.Do(func() { close(r.began) })
	return r.Database.Read(ctx, fn)
}

// expectGone checks that nothing of any server is stored, nor anything that leads to one.
func expectGone(t *testing.T, db backend.Database) {
	t.Helper()
	var left []backend.KeyValue
	must(t, db.Read(t.Context(), func(tx backend.ReadTx) error {
		servers, err := tx.GetRange(backend.NewKey("s").Tree(), backend.RangeOptions{}).Get()
		if err != nil {
			return err
		}
		marks, err := tx.GetRange(backend.NewKey("r").Tree(), backend.RangeOptions{}).Get()
		if err != nil {
			return err
		}
		waiting, err := tx.GetRange(backend.NewKey("w").Tree(), backend.RangeOptions{}).Get()
		left = slices.Concat(servers, marks, waiting)
		return err
	}))
	for _, pair := range left {
		t.Errorf("left: %v", pair.Key)
	}
}

func TestKillRemovesEverythingAndTellsCallers(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s, _ := setAside(t, db, Refusal{})
		must(t, s.Cast(ctx, Note{1}))
		stop := run(t, dserver.Consumer{}, db, ledgers)
		seenAfter(t, ctx, s)
		stop()
		must(t, s.Cast(ctx, Page{strings.Repeat("x", 300_000)}))
		answers := callers(t, open(), 5, Read{})
		push(t, db, s.Ref(), queue.Normal, callOf(t, "GONE.1")) // its process was swept: it gets no mail
		others := make(chan error, 3)
		call := func(opt dserver.Option) {
			reading := &reading{Database: open(), began: make(chan struct{})}
			go func() { others <- ledgers.At(reading, "x").Call(ctx, Read{}, nil, opt) }()
			<-reading.began // it was sent, and waits for its answer
		}
		call(dserver.After(time.Hour))
		call(dserver.Once("key"))
		call(dserver.Once("key")) // the same: it waits for the other's outcome
		must(t, s.Kill(ctx))
		expectKilled(t, answers)
		expectKilled(t, others)
		expectGone(t, db)
		if _, err := s.State(ctx); !errors.Is(err, dserver.ErrNotFound) {
			t.Error(err)
		}
		must(t, s.Kill(ctx)) // there is nothing to kill
		must(t, s.Cast(ctx, Note{2}))
		start(t, db, ledgers)
		if seen := seenAfter(t, ctx, s); !slices.Equal(seen, []int{2}) {
			t.Errorf("the new server has seen %v", seen)
		}
	})
}

// dying is a database whose process dies after some commits: further ones fail, and nothing tells that they would.
type dying struct {
	backend.Database
	commits int
}

var errDied = errors.New("the process died")

func (d *dying) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	if d.commits == 0 {
		return errDied
	}
	d.commits--
	return d.Database.Transact(ctx, fn)
}

// However long the queue is, a kill is one commit: when the killer dies after it, or later, nobody handles what the old
// server had, and whoever comes next tells the callers.
func TestKillIsOneCommitAndAnybodyBuriesTheRest(t *testing.T) {
	for commits := range 4 {
		for _, by := range []string{"consumer", "killer"} {
			t.Run(fmt.Sprintf("%d/%s", commits, by), func(t *testing.T) {
				killAndDie(t, newStore(t, ledgers).Open, commits, by)
			})
		}
	}
	eachStore(t, func(t *testing.T, open func() backend.Database) { killAndDie(t, open, 2, "consumer") })
}

func killAndDie(t *testing.T, open func() backend.Database, commits int, by string) {
	db, ctx := open(), within(t)
	s, _ := setAside(t, db, Refusal{})
	answers := callers(t, open(), 300, Read{})
	for n := range 300 {
		must(t, s.Cast(ctx, Note{n}))
	}
	err := ledgers.At(&dying{db, commits}, "x").Kill(ctx)
	if died := errors.Is(err, errDied); died != (commits == 0) || !died && err != nil {
		t.Fatal(err)
	}
	must(t, s.Cast(ctx, Note{1000}))
	if commits == 0 {
		if n := len(waiting(t, s)); n != 601 {
			t.Errorf("nothing was killed, and %d messages wait", n)
		}
		must(t, s.Kill(ctx))
		expectKilled(t, answers)
		return
	}
	if n := len(waiting(t, s)); n != 1 {
		t.Errorf("%d messages wait for the new server", n)
	}
	if status := statusOf(t, s); status.DeadLetters != 0 || !status.Created.IsZero() {
		t.Errorf("%+v", status)
	}
	if by == "killer" {
		must(t, s.Kill(ctx))
		expectKilled(t, answers)
		expectGone(t, db)
		return
	}
	start(t, db, ledgers)
	expectKilled(t, answers)
	if seen := seenAfter(t, ctx, s); !slices.Equal(seen, []int{1000}) {
		t.Errorf("the new server has seen %v", seen)
	}
	if status := statusOf(t, s); status.Queued != 0 {
		t.Errorf("%+v", status)
	}
}

// gated is a type whose Gate handler waits in its first run until it is let go.
func gated() (def *dserver.Definition[Ledger], entered, leave chan struct{}) {
	entered, leave = make(chan struct{}), make(chan struct{})
	var once sync.Once
	def = ledgers.With(dserver.HandleCall(func(_ *dserver.Context, l *Ledger, m Gate) (int, error) {
		once.Do(func() {
			close(entered)
			<-leave
		})
		l.Seen = append(l.Seen, m.N)
		return len(l.Seen), nil
	}))
	return def, entered, leave
}

// Gate is answered with how many numbers the ledger has.
type Gate struct {
	dserver.Returns[int]
	N int
}

// A turn that is in flight when its server is killed or reset leaves no trace of the old state. Its message goes with
// the queue of a server that was killed; one that was not queued is handled by the new server.
func TestTurnsInFlightAbortWhenTheirServerEnds(t *testing.T) {
	ends := map[string]func(context.Context, *dserver.DServer[Ledger]) error{
		"kill":  func(ctx context.Context, s *dserver.DServer[Ledger]) error { return s.Kill(ctx) },
		"reset": func(ctx context.Context, s *dserver.DServer[Ledger]) error { return s.Reset(ctx) },
	}
	for name, end := range ends {
		for _, local := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/local=%v", name, local), func(t *testing.T) {
				eachStore(t, func(t *testing.T, open func() backend.Database) {
					turnInFlight(t, open, end, local, name == "kill" && !local)
				})
			})
		}
	}
}

func turnInFlight(
	t *testing.T, open func() backend.Database, end func(context.Context, *dserver.DServer[Ledger]) error, local, dies bool,
) {
	db, far, ctx := open(), open(), within(t)
	def, entered, leave := gated()
	start(t, db, def)
	must(t, def.At(db, "x").Cast(ctx, Note{1}))
	seenAfter(t, ctx, def.At(db, "x"))
	caller := def.At(far, "x")
	if local {
		caller = def.At(db, "x")
	}
	var count int
	answer := make(chan error, 1)
	go func() { answer <- caller.Call(ctx, Gate{N: 2}, &count) }()
	<-entered
	must(t, end(ctx, ledgers.At(far, "x")))
	close(leave)
	err := <-answer
	switch {
	case dies && !errors.Is(err, dserver.ErrKilled):
		t.Errorf("the caller got %v", err)
	case !dies && (err != nil || count != 1):
		t.Errorf("the new server counted %d, %v", count, err)
	}
}

// A message that breaks while its server is killed is dead as the others, though it is not buried yet.
func TestFaultOfAKilledServerIsNotSetAside(t *testing.T) {
	db, ctx := newStore(t, ledgers).Open(), within(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	def := ledger.With(
		dserver.Settings[Ledger]{MaxAttempts: 1},
		dserver.HandleCast(func(*dserver.Context, *Ledger, Burst) error {
			close(entered)
			<-leave
			panic("burst")
		}),
		dserver.HandleCall(func(_ *dserver.Context, l *Ledger, _ Read) ([]int, error) { return l.Seen, nil }))
	s := ledgers.At(db, "x")
	must(t, s.Cast(ctx, Burst{}))
	start(t, db, def)
	<-entered
	for range 300 { // a page of messages ahead of it
		push(t, db, s.Ref(), queue.Priority, callOf(t, ""))
	}
	must(t, ledgers.At(&dying{db, 1}, "x").Kill(ctx))
	close(leave)
	if seen := seenAfter(t, ctx, def.At(db, "x")); len(seen) != 0 {
		t.Errorf("seen %v", seen)
	}
	if status := statusOf(t, s); status.DeadLetters != 0 || status.Queued != 0 {
		t.Errorf("%+v", status)
	}
}

// What two consumers remember of a server never survives its end: each state is of one life.
func TestCachesForgetServersThatEnded(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		random, ctx := seeded(t), within(t)
		var sides []*dserver.DServer[Ledger]
		for range 2 {
			db := open()
			start(t, db, ledgers)
			sides = append(sides, ledgers.At(db, "x"))
		}
		var want []int
		for n := range 200 {
			s := sides[random.IntN(2)]
			switch random.IntN(6) {
			case 0:
				must(t, s.Kill(ctx))
				want = nil
			case 1:
				seenAfter(t, ctx, s) // it keeps the queue, in which casts may be
				must(t, s.Reset(ctx))
				want = nil
			case 2, 3:
				must(t, s.Cast(ctx, Note{n}))
				want = append(want, n)
			default:
				if seen := seenAfter(t, ctx, s); !slices.Equal(seen, want) {
					t.Fatalf("seen %v, want %v", seen, want)
				}
			}
		}
	})
}

// Senders and a consumer go on while the server is killed again and again. Nothing is handled twice or out of order,
// and all that was sent after the last kill is handled.
func TestKillsAmongSendersLoseNothingThatCameLater(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx, db, far := within(t), open(), open()
		const before, after = 400, 50
		handled := make(chan int, before+after)
		stop := run(t, dserver.Consumer{}, db, ledger.With(dserver.HandleCast(func(ctx *dserver.Context, l *Ledger, m Note) error {
			l.Seen = append(l.Seen, m.N)
			ctx.AfterCommit(func() { handled <- m.N })
			return nil
		}), dserver.HandleCall(func(_ *dserver.Context, l *Ledger, _ Read) ([]int, error) { return l.Seen, nil })))
		var senders sync.WaitGroup
		senders.Go(func() {
			for n := range before {
				if err := ledgers.At(far, "x").Cast(ctx, Note{n}); err != nil {
					t.Error(err)
				}
			}
		})
		killUntil(t, ctx, ledgers.At(open(), "x"), &senders)
		for n := range after {
			must(t, ledgers.At(far, "x").Cast(ctx, Note{before + n}))
		}
		seen := seenAfter(t, ctx, ledgers.At(db, "x"))
		if want := numbersFrom(before, after); !slices.Equal(seen, want) {
			t.Errorf("after the last kill it has seen %v, want %v", seen, want)
		}
		stop() // AfterCommit's functions have run
		close(handled)
		last := -1
		for n := range handled {
			if n <= last {
				t.Errorf("%d was handled after %d", n, last)
			}
			last = n
		}
	})
}

// killUntil kills until the senders are done, and once more.
func killUntil(t *testing.T, ctx context.Context, s *dserver.DServer[Ledger], senders *sync.WaitGroup) {
	t.Helper()
	done := make(chan struct{})
	go func() { senders.Wait(); close(done) }()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		must(t, s.Kill(ctx))
	}
}

func numbersFrom(first, count int) []int {
	list := make([]int, count)
	for i := range list {
		list[i] = first + i
	}
	return list
}

func TestResetKeepsTheQueueAndStartsAnew(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s, d := setAside(t, db, Refusal{})
		stop := run(t, dserver.Consumer{}, db, ledgers)
		must(t, s.Cast(ctx, Note{1}))
		seenAfter(t, ctx, s)
		stop()
		must(t, s.Cast(ctx, Note{2}))
		must(t, s.Reset(ctx))
		if _, err := s.State(ctx); !errors.Is(err, dserver.ErrNotFound) {
			t.Error(err)
		}
		if status := statusOf(t, s); status.Queued != 1 || status.DeadLetters != 1 || !status.Created.IsZero() || status.Version != 0 {
			t.Errorf("%+v", status)
		}
		if left := letters(t, s); len(left) != 1 || left[0].Stamp != d.Stamp {
			t.Errorf("the dead letters are %+v", left)
		}
		start(t, db, ledgers)
		if seen := seenAfter(t, ctx, s); !slices.Equal(seen, []int{2}) {
			t.Errorf("seen %v", seen)
		}
		state, err := s.State(ctx)
		if err != nil || state.Started != 1 {
			t.Errorf("%+v, %v", state, err)
		}
	})
}

// A message that waits for its back-off is tried at once on the new state.
func TestResetForgetsTheAttempts(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := ledgers.Ref("x").At(db)
		must(t, s.Cast(ctx, dserver.Message{Name: "Note", Body: []byte{1}})) // which cannot be decoded
		stop := run(t, dserver.Consumer{}, db, ledgers)
		eventually(t, "the head backs off", func() bool { return statusOf(t, s).Attempts > 0 })
		stop()
		must(t, s.Reset(ctx))
		if n := statusOf(t, s).Attempts; n != 0 {
			t.Errorf("%d attempts", n)
		}
		start(t, db, ledgers)
		eventually(t, "it is tried again", func() bool { return statusOf(t, s).Attempts > 0 })
		if status := statusOf(t, s); status.DeadLetters != 0 || status.Queued != 1 {
			t.Errorf("%+v", status)
		}
	})
}
