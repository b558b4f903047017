package dserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
)

// Sum is a state that tells the order of what it was given: each number is folded into it. Had tells what that was.
type Sum struct {
	X   uint32
	Had []uint32
}

func (s *Sum) fold(by uint32) uint32 {
	s.X = s.X*31 + by
	s.Had = append(s.Had, by)
	return s.X
}

type (
	Fold struct {
		dserver.Returns[uint32]
		By uint32
	}
	FoldLater struct{ By uint32 }
	Look      struct{ dserver.Returns[uint32] }
	FoldNot   struct {
		dserver.Returns[uint32]
		By uint32
	}
)

var sums = dserver.Define("sum",
	dserver.HandleCall(func(_ *dserver.Context, s *Sum, m Fold) (uint32, error) { return s.fold(m.By), nil }),
	dserver.HandleCast(func(_ *dserver.Context, s *Sum, m FoldLater) error { s.fold(m.By); return nil }),
	dserver.HandleCall(func(_ *dserver.Context, s *Sum, _ Look) (uint32, error) { return s.X, nil }),
	dserver.HandleCall(func(_ *dserver.Context, s *Sum, m FoldNot) (uint32, error) { s.fold(m.By); return 0, errDenied }),
)

// sumOp is an operation of a history; sumOutcome is how it ended.
type (
	sumOp struct {
		server string
		by     uint32 // 0 looks
		not    bool   // is refused
	}
	sumOutcome struct {
		x       uint32
		unknown bool // nobody was told
		silent  bool // a cast: it has no answer
	}
)

// sumModel is what a Sum is to those who call it.
var sumModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		by := map[string][]porcupine.Operation{}
		for _, op := range history {
			server := op.Input.(sumOp).server
			by[server] = append(by[server], op)
		}
		for _, part := range by {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return uint32(0) },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := Sum{X: state.(uint32)}, input.(sumOp), output.(sumOutcome)
		if in.by != 0 && !in.not {
			s.fold(in.by)
		}
		return in.not || out.x == s.X, s.X
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// callHistory is what clients did and were told.
type callHistory struct {
	clock  atomic.Int64
	number atomic.Uint32
	mu     sync.Mutex
	ops    []porcupine.Operation
}

// do runs an operation and notes it, unless it is known to have done nothing.
func (h *callHistory) do(client int, in sumOp, fn func() (uint32, error)) error {
	begun := h.clock.Add(1)
	x, err := fn()
	op := porcupine.Operation{ClientId: client, Input: in, Call: begun, Return: h.clock.Add(1), Output: sumOutcome{x: x, silent: x == silent}}
	var refused *dserver.Error
	switch {
	case err == nil && in.not:
		return fmt.Errorf("%+v was not refused", in)
	case err == nil, in.not && errors.As(err, &refused) && errors.Is(err, errDenied):
	case wasNotSent(err):
		return nil
	case errors.Is(err, backend.ErrCommitUnknown), errors.Is(err, backend.ErrClosed), errors.Is(err, context.DeadlineExceeded):
		if in.by == 0 || in.not {
			return nil // nobody can tell whether it happened
		}
		op.Output, op.Return = sumOutcome{unknown: true}, math.MaxInt64
	default:
		return fmt.Errorf("%+v: %w", in, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
	return nil
}

// silent is the answer to a cast. No Sum in a test has it but by chance, and then a check is left out.
const silent = math.MaxUint32

// client does n operations. With queries it looks past the queue, where casts may not have come yet: then it casts none.
func (h *callHistory) client(number, n int, servers int, db func() backend.Database, choose *rand.Rand, queries bool, limit time.Duration) error {
	for range n {
		in := sumOp{server: fmt.Sprint(choose.IntN(servers))}
		s := sums.At(db(), in.server)
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		var fn func() (uint32, error)
		switch choose.IntN(6) {
		case 0:
			fn = func() (uint32, error) { return dserver.Call(ctx, s, Look{}) }
			if queries {
				fn = func() (uint32, error) { return dserver.Query(ctx, s, Look{}) }
			}
		case 1:
			in.by, in.not = h.number.Add(1), true
			fn = func() (uint32, error) { return dserver.Call(ctx, s, FoldNot{By: in.by}) }
		case 2, 3:
			in.by = h.number.Add(1)
			if !queries {
				fn = func() (uint32, error) { return silent, s.Cast(ctx, FoldLater{in.by}) }
				break
			}
			fallthrough
		default:
			in.by = h.number.Add(1)
			fn = func() (uint32, error) { return dserver.Call(ctx, s, Fold{By: in.by}) }
		}
		err := h.do(number, in, fn)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// settle completes the history when nothing runs any more. What nobody was told about and what did not happen is left
// out. What happened without an answer, the casts, gets the one that it would have had: so the order of the history must
// be that in which the server did it.
func (h *callHistory) settle(t *testing.T, db backend.Database) {
	t.Helper()
	had := map[string][]uint32{}
	for ref, err := range dserver.Servers(context.Background(), db, sums.Name()) {
		must(t, err)
		s, err := sums.At(db, ref.ID).State(context.Background())
		if err != nil && !errors.Is(err, dserver.ErrNotFound) {
			t.Fatal(err)
		}
		had[ref.ID] = s.Had
	}
	h.complete(t, had)
}

// complete is settle for what each server had.
func (h *callHistory) complete(t *testing.T, had map[string][]uint32) {
	t.Helper()
	answers := map[sumOp]uint32{}
	for id, numbers := range had {
		var again Sum
		for _, by := range numbers {
			answers[sumOp{server: id, by: by}] = again.fold(by)
		}
	}
	var ops []porcupine.Operation
	for _, op := range h.ops {
		in, out := op.Input.(sumOp), op.Output.(sumOutcome)
		if in.by != 0 && !in.not {
			x, happened := answers[in]
			switch {
			case !happened && out.unknown:
				continue
			case !happened:
				t.Errorf("%+v was acknowledged and did not happen", in)
			case out.unknown || out.silent:
				op.Output = sumOutcome{x: x}
			}
		}
		ops = append(ops, op)
	}
	h.ops = ops
}

// verify asks whether one server that does one thing after the other could have answered so.
func (h *callHistory) verify(t *testing.T) {
	t.Helper()
	result, info := porcupine.CheckOperationsVerbose(sumModel, h.ops, 5*time.Minute)
	if result == porcupine.Ok {
		return
	}
	picture := filepath.Join(os.TempDir(), "linearizability.html")
	if err := porcupine.VisualizePath(sumModel, info, picture); err != nil {
		picture = err.Error()
	}
	t.Errorf("a history of %d operations is not linearizable (%s): %s", len(h.ops), result, picture)
}

func TestLongCallsAreLinearizable(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	rounds := 6
	if os.Getenv("LONG") != "" {
		rounds = 500
	}
	for round := range rounds {
		queries, faults := round%2 == 1, round%3 == 2
		name := fmt.Sprintf("%d queries=%v faults=%v", round, queries, faults)
		if !t.Run(name, func(t *testing.T) {
			h := new(callHistory)
			synctest.Test(t, func(t *testing.T) { h.record(t, random, queries, faults) })
			h.verify(t)
		}) {
			return
		}
	}
}

// record runs 16 clients in four processes, of which most consume.
func (h *callHistory) record(t *testing.T, random *rand.Rand, queries, faults bool) {
	store := newStore(t, sums)
	open := store.Open
	if faults {
		open = backendtest.Chaos(func(testing.TB) func() backend.Database { return store.Open }, 0.01)(t)
	}
	lags := newLag(random, []time.Duration{time.Microsecond, time.Millisecond, 30 * time.Millisecond}[random.IntN(3)])
	ctx, cancel := context.WithCancel(context.Background())
	var nodes []*node
	for i := range 4 {
		nodes = append(nodes, startNode(ctx, t, func() backend.Database { return lags.on(open()) }, i < 3, sums))
	}
	var clients sync.WaitGroup
	for i := range 16 {
		choose := rand.New(rand.NewPCG(random.Uint64(), 0))
		clients.Go(func() {
			if err := h.client(i, 15, 3, nodes[i%len(nodes)].db, choose, queries, time.Hour); err != nil {
				t.Error(err)
			}
		})
	}
	clients.Wait()
	<-time.After(5 * time.Minute) // what is queued is handled
	cancel()
	for _, n := range nodes {
		n.wait()
	}
	h.settle(t, store.Open())
}

// node is a process: it has one handle of the store, may run a consumer, and starts again when it died.
type node struct {
	mu      sync.Mutex
	current backend.Database
	wg      sync.WaitGroup
}

// Every other one parks at once what cannot go on: such servers leave the marks, and come back, all the time.
func startNode(ctx context.Context, t testing.TB, open func() backend.Database, consumes bool, types ...dserver.Type) *node {
	n := &node{current: open()}
	run := dserver.Run
	if nodesStarted.Add(1)%2 == 0 {
		run = hasty
	}
	n.wg.Go(func() {
		for ctx.Err() == nil {
			db := n.db()
			var err error
			if consumes {
				err = run(ctx, db, types...)
			} else {
				err = deathOf(ctx, db)
			}
			if err != nil && !errors.Is(err, backend.ErrClosed) {
				t.Errorf("a process: %v", err)
			}
			n.mu.Lock()
			n.current = open()
			n.mu.Unlock()
		}
	})
	return n
}

var nodesStarted atomic.Int64

// deathOf waits until a handle is closed or ctx ends.
func deathOf(ctx context.Context, db backend.Database) error {
	for {
		if err := db.Read(ctx, func(backend.ReadTx) error { return nil }); err != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (n *node) db() backend.Database {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.current
}

func (n *node) wait() { n.wg.Wait() }

// childVariable is the name of the database that a child process of these tests consumes.
const childVariable = "DSERVER_TEST_CONSUME"

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // most tests break something, and their consumers have no logger
	if name := os.Getenv(childVariable); name != "" {
		if err := consume(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// consume runs a consumer until its parent closes standard input.
func consume(name string) error {
	db, err := open.Database(name)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx := untilOrphaned()
	fmt.Println("ready")
	return dserver.Run(ctx, db, sums)
}

// startChild runs consume in a process of its own.
func startChild(t *testing.T, name string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+name)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		must(t, stdin.Close())
		if err := cmd.Wait(); err != nil {
			t.Errorf("a consumer process: %v", err)
		}
	})
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("a consumer process: %v", err)
	}
}

// The same with real processes on one database: three that consume, and this one with callers beside a consumer and apart.
func TestCallsOfSeveralProcessesAreLinearizable(t *testing.T) {
	t.Parallel()
	eachNamedStore(t, recordProcesses)
}

func recordProcesses(t *testing.T, place func(testing.TB) (name string)) {
	random, name := seeded(t), place(t)
	openIt := func() backend.Database {
		db, err := open.Database(name)
		must(t, err)
		t.Cleanup(func() { must(t, db.Close()) })
		return db
	}
	db, apart := openIt(), openIt()
	t.Cleanup(func() { check(t, db, sums) })
	for range 3 {
		startChild(t, name)
	}
	start(t, db, sums)
	h := new(callHistory)
	var clients sync.WaitGroup
	for i := range 16 {
		choose := rand.New(rand.NewPCG(random.Uint64(), 0))
		mine := db
		if i%2 == 0 {
			mine = apart
		}
		clients.Go(func() {
			if err := h.client(i, 20, 3, func() backend.Database { return mine }, choose, false, patience); err != nil {
				t.Error(err)
			}
		})
	}
	clients.Wait()
	eventually(t, "all casts are handled", func() bool {
		for i := range 3 {
			status, err := sums.At(db, fmt.Sprint(i)).Status(within(t))
			must(t, err)
			if status.Queued > 0 {
				return false
			}
		}
		return true
	})
	h.settle(t, db)
	h.verify(t)
}
