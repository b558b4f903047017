package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/backend/fdb/fdbtest"
	"github.com/dserver-go/dserver/dserver"
)

// A bank of safes that send each other money, set timers, lock, defer, repeat themselves, refuse and explode, in
// processes that die at random commits. What the safes remember is compared with a sequential oracle: what each sender
// was told; and all the time somebody counts the money. Some safes are killed and reset now and then
// (mortal_torture_test.go), and in real time some of the processes are real ones, which get SIGKILL.

// bankSize is how much of it there is.
type bankSize struct {
	safes, senders, messages int
	limit                    time.Duration // for each answer
	quiet                    time.Duration // after the last, in which nothing may happen
	explode                  bool
}

// bank is one round.
type bank struct {
	bankSize
	t     *testing.T
	open  func() backend.Database // without faults
	nodes []*node

	mortals mortals

	mu     sync.Mutex
	fates  map[string]fate
	cents  map[string]int64 // what was remitted, by id
	begins int              // messages that were sent, and those that they sent
	took   int              // those that took effect
	sigs   int              // real processes that got SIGKILL in the middle
	audits int
	onWay  int // audits that met money on its way
}

// fate is what the oracle knows of an id.
type fate struct {
	server string
	least  int
	most   int
	parent string // which happened just as often
}

func (b *bank) note(id string, f fate) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fates[id] = f
	b.begins++
}

// play runs a round: processes with faults, one without that comes and goes, and the senders.
func (b *bank) play(random *rand.Rand, faulty func() backend.Database, types *dserver.Definition[Safe]) {
	b.fates, b.cents = map[string]fate{}, map[string]int64{}
	b.mortals.over, b.mortals.still, b.mortals.sent = make(chan struct{}), make(chan struct{}), map[string]mortalFate{}
	ctx, cancel := context.WithCancel(context.Background())
	var comers sync.WaitGroup
	for i := range 3 {
		b.nodes = append(b.nodes, startNode(ctx, b.t, faulty, i < 2, types))
	}
	steady := b.open()
	choose := rand.New(rand.NewPCG(random.Uint64(), 0))
	comers.Go(func() {
		for ctx.Err() == nil {
			until, cancel := context.WithTimeout(ctx, time.Duration(choose.IntN(2000))*time.Millisecond)
			if err := dserver.Run(until, steady, types); err != nil {
				b.t.Errorf("Run: %v", err)
			}
			<-until.Done()
			cancel()
		}
	})
	var senders sync.WaitGroup
	for i := range b.senders {
		choose := rand.New(rand.NewPCG(random.Uint64(), 0))
		senders.Go(func() {
			for j := range b.messages {
				if id := fmt.Sprintf("%d-%d", i, j); choose.IntN(6) == 0 {
					b.sendMortal(id, choose)
				} else {
					b.send(id, choose)
				}
				<-time.After(time.Duration(choose.IntN(30)) * time.Millisecond) // else all of a bubble's is sent at once
			}
		})
	}
	ends := rand.New(rand.NewPCG(random.Uint64(), 0))
	comers.Go(func() { b.endMortals(ctx, steady, ends) })
	moments := rand.New(rand.NewPCG(random.Uint64(), 0))
	comers.Go(func() { b.auditUntil(ctx, steady, moments) })
	senders.Wait()
	b.settle()
	cancel()
	comers.Wait()
	for _, n := range b.nodes {
		n.wait()
	}
	b.judge()
}

// send sends one message of some kind and notes what must follow.
func (b *bank) send(id string, choose *rand.Rand) {
	server, other := fmt.Sprint(choose.IntN(b.safes)), fmt.Sprint(choose.IntN(b.safes))
	soon := time.Duration(choose.IntN(100)) * time.Millisecond
	cast := func(m any, opts ...dserver.Option) fate {
		return b.try(id, server, func(ctx context.Context, s *dserver.DServer[Safe]) error { return s.Cast(ctx, m, opts...) })
	}
	call := func(m dserver.Request[string], opts ...dserver.Option) fate {
		return b.try(id, server, func(ctx context.Context, s *dserver.DServer[Safe]) error {
			got, err := dserver.Call(ctx, s, m, opts...)
			if err == nil && got != id {
				b.t.Errorf("%+v is answered %q", m, got)
			}
			return err
		})
	}
	follows := func(f fate, server, suffix string) {
		b.note(id+suffix, fate{server: server, most: 1, parent: id})
		b.note(id, f)
	}
	switch kind := choose.IntN(14); kind {
	case 0, 1:
		b.note(id, cast(Stow{id}))
	case 2:
		b.note(id, cast(Stow{id}, dserver.Priority()))
	case 3:
		b.note(id, cast(Stow{id}, dserver.After(soon)))
	case 4, 5:
		b.note(id, call(Grab{ID: id}))
	case 6:
		f := fate{}
		for range 2 { // until it is sure, and then again
			for f = call(Grab{ID: id}, dserver.Once(id)); f.least == 0; f = call(Grab{ID: id}, dserver.Once(id)) {
			}
		}
		b.note(id, f)
	case 7:
		b.note(id, call(Toil{ID: id}))
	case 8:
		id = "clumsy " + id
		b.note(id, call(Toil{ID: id}))
	case 9:
		follows(call(Defer{ID: id, By: other}), other, " answered")
	case 10, 11:
		cents := choose.Int64N(100)
		b.mu.Lock()
		b.cents[id] = cents
		b.mu.Unlock()
		follows(cast(Remit{ID: id, To: other, Cents: cents, Urgent: kind == 10}), other, " passed")
	case 12:
		follows(cast(Wind{id, id, soon}), server, " rang")
	case 13:
		id = "refused " + id
		if f := call(Grab{ID: id}); f.least > 0 {
			b.t.Errorf("%s was not refused", id)
		}
		if b.explode && choose.IntN(10) == 0 {
			cast(Explode{id})
		}
		b.note(id, fate{server: server})
	}
}

// try sends until it is known or unknown what became of a message.
func (b *bank) try(id, server string, fn func(ctx context.Context, s *dserver.DServer[Safe]) error) fate {
	for n := 0; ; n++ {
		ctx, cancel := context.WithTimeout(context.Background(), b.limit)
		err := fn(ctx, safe.At(b.nodes[n%len(b.nodes)].db(), server))
		late := ctx.Err() != nil
		cancel()
		if err != nil {
			<-time.After(time.Millisecond) // who tries again at once would not let a bubble's time pass, in which a process ends
		}
		switch {
		case err == nil:
			return fate{server: server, least: 1, most: 1}
		case errors.Is(err, errDenied):
			return fate{server: server}
		case late:
			b.t.Errorf("nobody answered %s: %v", id, err)
			return fate{server: server, most: 1}
		case errors.Is(err, backend.ErrCommitUnknown), isInterrupted(err) && !wasNotSent(err):
			return fate{server: server, most: 1}
		case !isInterrupted(err):
			b.t.Errorf("%s: %v", id, err)
			return fate{server: server, most: 1}
		}
	}
}

// settle waits until all queues are empty and nothing is to come.
func (b *bank) settle() {
	db := b.open()
	defer db.Close()
	b.mortals.stop()
	eventually(b.t, "all servers are at rest", func() bool {
		for _, id := range b.servers() {
			s, err := safe.At(db, id).Status(context.Background())
			if err != nil || s.Queued > 0 || s.Locked || rows(b.t, db, "s", "safe", id, "t")+rows(b.t, db, "s", "safe", id, "a") > 0 {
				return false // messages, a lock, timers or messages that are sent later
			}
		}
		return true
	})
	<-time.After(b.quiet)
}

func (b *bank) servers() (ids []string) { return append(numbered("", b.safes), mortalIDs...) }

// judge compares what the safes have seen with what may be.
func (b *bank) judge() {
	db := b.open()
	defer db.Close()
	b.judgeMortals()
	seen, cents := map[string]int{}, int64(0)
	for _, server := range b.servers() {
		s, err := safe.At(db, server).State(context.Background())
		if err != nil && !errors.Is(err, dserver.ErrNotFound) {
			b.t.Fatal(err)
		}
		cents += s.Cents
		for id, n := range s.Seen {
			b.took++
			if f, ok := b.fates[id]; !ok || f.server != server {
				b.t.Errorf("%s happened in %s", id, server)
			}
			seen[id] += n
		}
	}
	for id, f := range b.fates {
		if n := seen[id]; n < f.least || n > f.most || f.parent != "" && n != seen[f.parent] {
			b.t.Errorf("%s happened %d times, which is %d to %d, as often as %q", id, n, f.least, f.most, f.parent)
		}
	}
	if cents != 0 {
		b.t.Errorf("%d cents appeared", cents)
	}
	check(b.t, db, safe)
}

// auditUntil counts the money again and again, until ctx ends.
func (b *bank) auditUntil(ctx context.Context, db backend.Database, choose *rand.Rand) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(choose.IntN(100)) * time.Millisecond):
		}
		if err := b.audit(ctx, db); err != nil && ctx.Err() == nil {
			b.t.Errorf("an audit: %v", err)
			return
		}
	}
}

// audit reads all safes as they are at one moment. What has left a safe is in another one, or on its way there, once.
func (b *bank) audit(ctx context.Context, db backend.Database) error {
	var seen map[string]int
	var total, onWay int64
	if err := db.Read(ctx, func(tx backend.ReadTx) error {
		seen, total = map[string]int{}, 0
		for _, id := range numbered("", b.safes) {
			s, err := safe.At(&moment{db, tx}, id).State(ctx)
			if err != nil && !errors.Is(err, dserver.ErrNotFound) {
				return err
			}
			total += s.Cents
			for id, n := range s.Seen {
				seen[id] += n
			}
		}
		return nil
	}); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, cents := range b.cents {
		left, came := seen[id], seen[id+" passed"]
		if left > 1 || came > left {
			return fmt.Errorf("%s left %d times and came %d times", id, left, came)
		}
		onWay += cents * int64(left-came)
	}
	if b.audits++; onWay != 0 {
		b.onWay++
	}
	if total+onWay != 0 {
		return fmt.Errorf("%d cents appeared, %d of them on their way", total+onWay, onWay)
	}
	return nil
}

// moment is a database as it is in one snapshot: all reads of it see the same.
type moment struct {
	backend.Database
	tx backend.ReadTx
}

func (m *moment) Read(_ context.Context, fn func(backend.ReadTx) error) error { return fn(m.tx) }

// isLong reports whether the random tests run for long.
func isLong() bool { return os.Getenv("LONG") != "" }

// bankRounds plays rounds until so many messages took effect, and reports how fast that was.
func bankRounds(t *testing.T, enough int, round func(t *testing.T, random *rand.Rand) *bank) {
	random := seeded(t)
	began, sent, took, ends, sigs, audits, onWay := time.Now(), 0, 0, 0, 0, 0, 0
	for n := 0; took < enough; n++ {
		var b *bank
		if !t.Run(fmt.Sprint(n), func(t *testing.T) { b = round(t, random) }) || b == nil {
			return // it failed, or -run asks for another round
		}
		sent, took, ends, sigs = sent+b.begins, took+b.took, ends+len(b.mortals.ends), sigs+b.sigs
		audits, onWay = audits+b.audits, onWay+b.onWay
		if took/50_000 > (took-b.took)/50_000 {
			t.Logf("%d messages so far", took)
		}
		if n > 100 && took < sent/20 { // many faults make most senders give up
			t.Errorf("only %d of %d messages happened: the test shows nothing", took, sent)
			return
		}
	}
	t.Logf("%d messages took effect of %d that were sent, %.0f a second; servers were killed or reset %d times, processes got SIGKILL %d times; %d audits, %d of them with money on its way",
		took, sent, float64(took)/time.Since(began).Seconds(), ends, sigs, audits, onWay)
}

// The model in virtual time: the processes die at one commit of 20 to 1,000.
func TestLongBankLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	size, enough := bankSize{safes: 5, senders: 8, messages: 20}, 1000
	if isLong() {
		size, enough = bankSize{safes: 40, senders: 100, messages: 20}, 950_000
	}
	size.limit, size.quiet, size.explode = time.Hour, 10*time.Second, true
	bankRounds(t, enough, func(t *testing.T, random *rand.Rand) (b *bank) {
		synctest.Test(t, func(t *testing.T) {
			store := backendtest.NewStore()
			rate := []float64{0, 0.001, 0.01, 0.05}[random.IntN(4)]
			b = &bank{bankSize: size, t: t, open: store.Open}
			faulty := backendtest.Chaos(func(testing.TB) func() backend.Database { return store.Open }, rate)(t)
			if lags := newLag(random, 3*time.Millisecond); random.IntN(2) == 0 {
				quick := faulty
				faulty = func() backend.Database { return lags.on(quick()) }
			}
			b.play(random, faulty, safes(slowToil))
		})
		return b
	})
}

// SQLite in real time.
func TestLongBankOnSQLiteLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	bankInRealTime(t, newFile)
}

// FoundationDB in real time.
func TestLongBankOnFoundationDBLosesAndDoublesNothing(t *testing.T) {
	if !fdbtest.IsAsked() {
		t.Skip("FDB=1 asks for FoundationDB")
	}
	bankInRealTime(t, fdbtest.Name)
}

// bankInRealTime gives each process a handle of its own on the one database. Beside them two real processes consume, and
// are killed again and again.
func bankInRealTime(t *testing.T, place func(testing.TB) (name string)) {
	size, enough := bankSize{safes: 5, senders: 16, messages: 10}, 200
	if isLong() {
		size, enough = bankSize{safes: 24, senders: 64, messages: 100}, 60_000
	}
	size.limit, size.quiet = 5*time.Minute, time.Second
	bankRounds(t, enough, func(t *testing.T, random *rand.Rand) *bank {
		name := place(t)
		open := func() backend.Database {
			db := openNamed(t, name)
			t.Cleanup(func() { _ = db.Close() })
			return db
		}
		rate := []float64{0, 0.001, 0.005}[random.IntN(3)]
		b := &bank{bankSize: size, t: t, open: open}
		victims := killSafeChildren(t, name, 2, random)
		b.play(random, backendtest.Chaos(func(testing.TB) func() backend.Database { return open }, rate)(t), safes(slowToil))
		b.sigs = victims()
		return b
	})
}
