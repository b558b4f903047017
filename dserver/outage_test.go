//go:build unix

package dserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/consumer"
)

// Outages: of two processes that consume, one loses the store for a while, again and again, and comes back. Its network is cut,
// or it is stopped and goes on. Clients in both, and in a third process, call, cast and ask for work under the lock meanwhile.

// Spool is a state that tells the order of what it was given, and how much of it each host did.
type Spool struct {
	Sum   Sum
	Hosts map[string]int
}

func (s *Spool) coil(host string, by uint32) uint32 {
	s.Hosts[host]++
	return s.Sum.fold(by)
}

type (
	Coil struct {
		dserver.Returns[uint32]
		By uint32
	}
	CoilLater struct{ By uint32 }
	CoilNot   struct {
		dserver.Returns[uint32]
		By uint32
	}
	CoilHeavy struct { // under the lock
		dserver.Returns[uint32]
		By    uint32
		Takes time.Duration
	}
	CoilHeavyLater struct {
		By    uint32
		Takes time.Duration
	}
	Length struct{ dserver.Returns[uint32] }
)

// spools tells when work begins. The work does not heed its context: when its lock was lost meanwhile, its result comes all the
// same, and must be refused.
func spools(host string, begins func(by uint32)) *dserver.Definition[Spool] {
	work := func(by uint32, takes time.Duration) (string, error) {
		begins(by)
		<-time.After(takes)
		return host, nil
	}
	return dserver.Define("spool",
		dserver.HandleCall(func(_ *dserver.Context, s *Spool, m Coil) (uint32, error) { return s.coil(host, m.By), nil }),
		dserver.HandleCast(func(_ *dserver.Context, s *Spool, m CoilLater) error { s.coil(host, m.By); return nil }),
		dserver.HandleCall(func(_ *dserver.Context, s *Spool, m CoilNot) (uint32, error) { s.coil(host, m.By); return 0, errDenied }),
		dserver.HandleLockedCall(func(_ *dserver.LockedContext, _ Spool, m CoilHeavy) (string, error) {
			return work(m.By, m.Takes)
		}, func(_ *dserver.Context, s *Spool, m CoilHeavy, worked string) (uint32, error) {
			return s.coil(worked, m.By), nil
		}),
		dserver.HandleLocked(func(_ *dserver.LockedContext, _ Spool, m CoilHeavyLater) (string, error) {
			return work(m.By, m.Takes)
		}, func(_ *dserver.Context, s *Spool, m CoilHeavyLater, worked string) error {
			s.coil(worked, m.By)
			return nil
		}),
		dserver.HandleCall(func(_ *dserver.Context, s *Spool, _ Length) (uint32, error) { return s.Sum.X, nil }),
	)
}

// coilOrder is what a client asks for, of a process that may be another one.
type coilOrder struct {
	Kind  string
	ID    string
	By    uint32
	Takes time.Duration
}

// answerBound is how long an answer may take, whatever happened: a lease, looks at what is parked, new connections, and a slow
// machine. Who is not answered in that time is taken for stuck.
const answerBound = 40 * time.Second

// send does what it asks for.
func (o coilOrder) send(def *dserver.Definition[Spool], db backend.Database) (uint32, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerBound)
	defer cancel()
	s := def.At(db, o.ID)
	switch o.Kind {
	case "length":
		return dserver.Call(ctx, s, Length{})
	case "not":
		return dserver.Call(ctx, s, CoilNot{By: o.By})
	case "cast":
		return silent, s.Cast(ctx, CoilLater{o.By})
	case "heavy":
		return dserver.Call(ctx, s, CoilHeavy{By: o.By, Takes: o.Takes})
	case "heavy cast":
		return silent, s.Cast(ctx, CoilHeavyLater{o.By, o.Takes})
	}
	return dserver.Call(ctx, s, Coil{By: o.By})
}

// outageEnv tells a child process its name. The name of its database comes as the first line, when it can be reached.
const outageEnv = "DSERVER_OUTAGE_CHILD"

// TestOutageChild is a process of the tests of outages. It consumes, and is a client, as the lines of its standard input tell it,
// until that ends.
func TestOutageChild(t *testing.T) {
	what := os.Getenv(outageEnv)
	if what == "" {
		t.Skip("the child process of another test")
	}
	var host string
	var rival bool
	_, err := fmt.Sscanf(what, "%q %v", &host, &rival)
	must(t, err)
	lines := bufio.NewScanner(os.Stdin)
	if !lines.Scan() {
		return
	}
	db, err := open.Database(lines.Text()) // a file is synced: a process is to be stopped in a commit as well
	must(t, err)
	defer db.Close()
	def := spools(host, func(by uint32) { fmt.Println("works", by) })
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- lodge(ctx, db, consumer.Options{Beat: outageBeat, Rival: rival}, def) }()
	fmt.Println("ready")
	for lines.Scan() {
		var n int
		var o coilOrder
		if _, err := fmt.Sscanf(lines.Text(), "%d %q %q %d %d", &n, &o.Kind, &o.ID, &o.By, &o.Takes); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		go func() {
			x, err := o.send(def, db)
			fmt.Printf("told %d %d %q\n", n, x, nameOfOutcome(err))
		}()
	}
	stop()
	must(t, <-ended)
}

// outageBeat is short: a process that is away for a lease was taken for dead several times by then.
const outageBeat = 200 * time.Millisecond

// Outcomes have a name where they go from one process to another.
var outcomes = map[string]error{"": nil, "unknown": backend.ErrCommitUnknown, "denied": errDenied, "closed": backend.ErrClosed}

func nameOfOutcome(err error) string {
	for name, outcome := range outcomes {
		if errors.Is(err, outcome) {
			return name
		}
	}
	return "error: " + err.Error()
}

func outcomeOf(name string) error {
	if err, isKnown := outcomes[name]; isKnown {
		return err
	}
	return errors.New(name)
}

// member is such a process, as its test has it.
type member struct {
	t     *testing.T
	host  string
	cmd   *exec.Cmd
	lines io.WriteCloser
	works chan uint32   // the numbers of work that it begins
	read  chan struct{} // closed when it has said its last

	mu     sync.Mutex
	orders int
	told   map[int]chan string
	rest   strings.Builder // what it said besides
	silent bool            // it says nothing any more
	ended  bool
}

func startMember(t *testing.T, host string, rival bool, with *syscall.SysProcAttr) *member {
	t.Helper()
	m := &member{t: t, host: host, works: make(chan uint32, 10000), read: make(chan struct{}), told: map[int]chan string{}}
	m.cmd = childOf("TestOutageChild", outageEnv, fmt.Sprintf("%q %v", host, rival))
	m.cmd.SysProcAttr = with
	m.cmd.Stderr = os.Stderr
	var err error
	m.lines, err = m.cmd.StdinPipe()
	must(t, err)
	said, err := m.cmd.StdoutPipe()
	must(t, err)
	must(t, m.cmd.Start())
	go m.listen(said)
	t.Cleanup(func() {
		if !m.ended {
			m.signal(syscall.SIGKILL)
			<-m.read
			_ = m.cmd.Wait()
		}
	})
	return m
}

func (m *member) signal(s syscall.Signal) { _ = m.cmd.Process.Signal(s) }

// freeze stops it, and waits until it stands still: one of its threads takes the signal, and the others go on until that one runs.
func (m *member) freeze() {
	m.signal(syscall.SIGSTOP)
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(m.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || !status.Stopped() {
			m.t.Errorf("%s is not stopped but %#x, %v: %s", m.host, status, err, &m.rest)
		}
		return
	}
}

func (m *member) listen(said io.Reader) {
	defer close(m.read)
	for lines := bufio.NewScanner(said); lines.Scan(); {
		what, rest, _ := strings.Cut(lines.Text(), " ")
		var n int
		switch _, err := fmt.Sscan(rest, &n); {
		case what == "told" && err == nil:
			m.mu.Lock()
			m.told[n] <- rest
			delete(m.told, n)
			m.mu.Unlock()
		case what == "works" && err == nil:
			select {
			case m.works <- uint32(n):
			default: // nobody has asked for long
			}
		case what == "ready":
			m.order(0) <- ""
		default:
			m.mu.Lock()
			fmt.Fprintln(&m.rest, lines.Text())
			m.mu.Unlock()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silent = true
	for _, told := range m.told {
		close(told)
	}
}

// order is where an answer comes; that to the order 0 is that it is ready.
func (m *member) order(n int) chan string {
	m.mu.Lock()
	defer m.mu.Unlock()
	told := m.told[n]
	if told == nil {
		told = make(chan string, 1)
		m.told[n] = told
		if m.silent {
			close(told)
		}
	}
	return told
}

// opens tells it its database, which it can reach from now on.
func (m *member) opens(name string) {
	m.t.Helper()
	ready := m.order(0)
	if _, err := fmt.Fprintln(m.lines, name); err != nil {
		m.t.Fatal(err)
	}
	if _, isReady := <-ready; !isReady {
		m.t.Fatalf("%s ended: %s", m.host, &m.rest)
	}
}

// do has it do what a client asks for. Its bound is its own time, in which it may be stopped.
func (m *member) do(o coilOrder) (uint32, error) {
	m.mu.Lock()
	m.orders++
	n := m.orders
	m.mu.Unlock()
	told := m.order(n)
	if _, err := fmt.Fprintf(m.lines, "%d %q %q %d %d\n", n, o.Kind, o.ID, o.By, o.Takes); err != nil {
		return 0, err
	}
	answer, isOne := <-told
	if !isOne {
		return 0, fmt.Errorf("%s ended", m.host)
	}
	var x uint32
	var name string
	if _, err := fmt.Sscanf(answer, "%d %d %q", &n, &x, &name); err != nil {
		return 0, fmt.Errorf("%q: %w", answer, err)
	}
	return x, outcomeOf(name)
}

// end ends it in order.
func (m *member) end() {
	m.t.Helper()
	m.ended = true
	must(m.t, m.lines.Close())
	<-m.read
	if err := m.cmd.Wait(); err != nil {
		m.t.Errorf("%s: %v: %s", m.host, err, &m.rest)
	}
}

// coiling is a history of what clients did, in all processes.
type coiling struct {
	t       *testing.T
	random  *rand.Rand
	history callHistory
	ids     []string
	db      backend.Database
	def     *dserver.Definition[Spool]

	members []*member
	explain sync.Once

	mu      sync.Mutex
	slowest time.Duration // of the answers to the clients that were not away
}

// whyNoAnswer says what stands in the store when an answer did not come, and has the processes print what their goroutines do.
func (w *coiling) whyNoAnswer() {
	for _, id := range w.ids {
		s := w.def.At(w.db, id)
		status, err := s.Status(context.Background())
		w.t.Logf("%s: %+v, %v", id, status, err)
		for q, err := range s.Queue(context.Background()) {
			w.t.Logf("%s: waits: %s of %v, %v", id, q.Message.Name, q.Sent, err)
		}
	}
	for c, err := range dserver.Consumers(context.Background(), w.db) {
		w.t.Logf("%+v, %v", c, err)
	}
	for _, m := range w.members {
		m.signal(syscall.SIGQUIT)
	}
}

// here does what a client asks for in this process, which does not consume.
func (w *coiling) here(o coilOrder) (uint32, error) {
	began := time.Now()
	x, err := o.send(w.def, w.db)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slowest = max(w.slowest, time.Since(began))
	return x, err
}

// does has a client do something, and notes it.
func (w *coiling) does(client int, o coilOrder, at func(coilOrder) (uint32, error)) {
	in := sumOp{server: o.ID, not: o.Kind == "not"}
	if o.Kind != "length" {
		in.by = w.history.number.Add(1)
		o.By = in.by
	}
	err := w.history.do(client, in, func() (uint32, error) {
		x, err := at(o)
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer for %v: %v", answerBound, err)
			w.explain.Do(w.whyNoAnswer)
		}
		return x, err
	})
	if err != nil {
		w.t.Errorf("client %d, %+v: %v", client, o, err)
	}
}

// client goes on until ctx ends.
func (w *coiling) client(ctx context.Context, number int, at func(coilOrder) (uint32, error), choose *rand.Rand) {
	kinds := []string{"call", "call", "cast", "cast", "cast", "length", "not", "heavy", "heavy cast"}
	for ctx.Err() == nil && !w.t.Failed() {
		o := coilOrder{Kind: kinds[choose.IntN(len(kinds))], ID: w.ids[choose.IntN(len(w.ids))]}
		if strings.HasPrefix(o.Kind, "heavy") {
			o.Takes = time.Duration(choose.IntN(40)) * time.Millisecond
		}
		w.does(number, o, at)
		<-time.After(time.Duration(choose.IntN(20)) * time.Millisecond)
	}
}

// The clients that look whether all servers answer, one for each, and the one that looks from the process that is away.
const (
	lookingClient = 1000
	awayClient    = 2000
)

// allAnswer expects each server to answer, though messages and locked work may be before that.
func (w *coiling) allAnswer() {
	var all sync.WaitGroup
	for i, id := range w.ids {
		all.Go(func() { w.does(lookingClient+i, coilOrder{Kind: "call", ID: id}, w.here) })
	}
	all.Wait()
}

// canCommit reports whether anybody can commit in time: a process that is stopped in a commit may keep all from it.
func (w *coiling) canCommit(within time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return w.db.Transact(ctx, func(tx backend.Tx) error {
		tx.Add(backend.NewKey("outage"), 1)
		return nil
	}) == nil
}

// outage is how a process loses the store, and has it again.
type outage struct {
	away       *member
	begin, end func()
	locks      bool // it may keep a lock of the store meanwhile
}

// atRandom has a short one, after which the process's own client is answered.
func (w *coiling) atRandom(o outage) {
	o.begin()
	<-time.After(time.Duration(w.random.IntN(400)) * time.Millisecond)
	o.end()
	w.does(awayClient, coilOrder{Kind: "call", ID: w.ids[0]}, o.away.do)
	<-time.After(time.Duration(w.random.IntN(200)) * time.Millisecond)
}

// inCommit has one in which a commit is under way, so that nobody can commit. It reports false when it met none.
func (w *coiling) inCommit(o outage) bool {
	for range 100 {
		o.begin()
		met := !w.canCommit(250 * time.Millisecond)
		if met {
			<-time.After(time.Duration(w.random.IntN(1000)) * time.Millisecond)
		}
		o.end()
		if met {
			return true
		}
		<-time.After(time.Duration(w.random.IntN(10)) * time.Millisecond)
	}
	return false
}

// inWork has one that begins when the process has begun work under a lock, and ends when all servers have answered: so another
// process has taken the lock over.
func (w *coiling) inWork(o outage) {
	for range 20 {
		for len(o.away.works) > 0 {
			<-o.away.works
		}
		for i, id := range w.ids {
			w.does(lookingClient+i, coilOrder{Kind: "heavy cast", ID: id, Takes: time.Second}, w.here)
		}
		last, limit := w.history.number.Load()-uint32(len(w.ids)), time.After(answerBound)
		for begun := false; !begun; {
			select {
			case by := <-o.away.works:
				begun = by > last
			case <-limit:
				w.t.Fatal("it has begun no work")
			case <-time.After(2 * time.Second): // its peer has begun all of it
				begun = true
			}
		}
		o.begin()
		if !o.locks || w.canCommit(2*time.Second) {
			isTold := make(chan struct{})
			go func() {
				w.does(awayClient, coilOrder{Kind: "call", ID: w.ids[0]}, o.away.do)
				close(isTold)
			}()
			w.allAnswer()
			select {
			case <-isTold:
				w.t.Error("it was not away")
			default:
			}
			o.end()
			<-isTold
			return
		}
		o.end()
	}
	w.t.Error("it was always stopped in a commit")
}

// settle waits until nothing waits, and judges what came of it all.
func (w *coiling) settle() (hosts map[string]int) {
	t, had := w.t, map[string][]uint32{}
	hosts = map[string]int{}
	for _, id := range w.ids {
		s := w.def.At(w.db, id)
		eventually(t, "nothing waits for "+id, func() bool {
			status := statusOf(t, s)
			return status.Queued == 0 && !status.Locked
		})
		state, err := s.State(within(t))
		must(t, err)
		if dead := letters(t, s); len(dead) > 0 {
			t.Errorf("%s: %d messages were set aside, the first with %+v", id, len(dead), dead[0])
		}
		had[id] = state.Sum.Had
		for host, n := range state.Hosts {
			hosts[host] += n
		}
	}
	w.judge(had)
	w.history.complete(t, had)
	w.history.verify(t)
	return hosts
}

// judge expects what each server did to be what was sent to it, once, and in the order of each sender.
func (w *coiling) judge(had map[string][]uint32) {
	sent := map[sumOp]int{} // by whom
	for _, op := range w.history.ops {
		if in := op.Input.(sumOp); in.by != 0 && !in.not {
			sent[in] = op.ClientId
		}
	}
	for id, numbers := range had {
		last := map[int]uint32{}
		for i, by := range numbers {
			client, isKnown := sent[sumOp{server: id, by: by}]
			switch {
			case !isKnown:
				w.t.Errorf("%s did %d, which nobody sent there", id, by)
			case slices.Contains(numbers[:i], by):
				w.t.Errorf("%s did %d of client %d twice", id, by, client)
			case by < last[client]:
				w.t.Errorf("%s did %d of client %d after %d", id, by, client, last[client])
			}
			last[client] = by
		}
	}
}

// outageRounds is how often there are outages of each kind, of which each has five or six.
func outageRounds() int {
	if n, err := strconv.Atoi(os.Getenv("KILLS")); err == nil {
		return max(1, n/50)
	}
	if isLong() {
		return 20
	}
	return 1
}

// loseTheStore runs clients beside outages of one of two consumers, and then ends the other one: who was away must do the rest.
func loseTheStore(t *testing.T, random *rand.Rand, name string, o outage, steady *member) {
	w := &coiling{t: t, random: random, ids: numbered("spool", 6), db: openNamed(t, name), def: spools("nobody", func(uint32) {})}
	w.members = []*member{o.away, steady}
	t.Cleanup(func() { must(t, w.db.Close()) })
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var clients sync.WaitGroup
	for i := range 10 {
		at := w.here
		switch {
		case i < 3:
			at = o.away.do
		case i < 5:
			at = steady.do
		}
		choose := rand.New(rand.NewPCG(random.Uint64(), 0))
		clients.Go(func() { w.client(ctx, i, at, choose) })
	}
	met := 0
	for range outageRounds() {
		for range 3 {
			w.atRandom(o)
		}
		if o.locks && w.inCommit(o) {
			met++
		}
		w.inWork(o)
		w.allAnswer()
		if t.Failed() {
			break
		}
	}
	stop()
	clients.Wait()
	if t.Failed() {
		return
	}
	before := w.settle()
	steady.end()
	w.allAnswer()
	after := w.settle()
	t.Logf("%d operations in %v, of which the slowest took %v; %d stops were in a commit",
		len(w.history.ops), after, w.slowest.Round(time.Millisecond), met)
	if n := after[o.away.host] - before[o.away.host]; n != len(w.ids) {
		t.Errorf("when it was alone, the process that was away did %d of %d", n, len(w.ids))
	}
	o.away.end()
	must(t, w.db.Transact(t.Context(), func(tx backend.Tx) error {
		tx.Clear(backend.NewKey("outage").Only())
		return nil
	}))
	check(t, w.db, w.def)
}

// A process that is stopped, at any moment, in a commit or in work under a lock, and goes on, loses, doubles and reorders nothing;
// what it had in hand is done by others meanwhile, if its moment leaves them the store, and it works again.
func TestProcessThatIsStoppedLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	eachNamedStore(t, func(t *testing.T, place func(testing.TB) string) {
		name, rival := place(t), random.IntN(2) == 0
		away, steady := startMember(t, "away", rival, nil), startMember(t, "steady", rival, nil)
		away.opens(name)
		steady.opens(name)
		loseTheStore(t, random, name, outage{
			away:  away,
			begin: away.freeze,
			end:   func() { away.signal(syscall.SIGCONT) },
			locks: !strings.HasPrefix(name, "fdb:"),
		}, steady)
	})
}
