package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// childVariable tells the test binary that it is a child, and which.
const childVariable = "DSERVER_SQLITE_CHILD"

// children are what other processes do with the file: they write lines about it until they are killed, or their
// input ends.
var children = map[string]func(ctx context.Context, db *DB) error{ //nolint:gochecknoglobals // a table
	"count": childCounts,
	"watch": childWatches,
	"race":  childRaces,
}

func TestMain(m *testing.M) {
	name := os.Getenv(childVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	db, err := Open(os.Args[1])
	if err == nil {
		err = children[name](ctx, db)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = nil
		}
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

// child is another process with the same file.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string // closed when it has ended
	read  sync.WaitGroup
}

func startChild(t *testing.T, name, path string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), childVariable+"="+name)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd, stdin: in, lines: make(chan string, 1<<20)}
	c.read.Go(func() {
		defer close(c.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
	})
	t.Cleanup(c.kill)
	return c
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	c.read.Wait()            // Wait closes what is still to be read
	_ = c.cmd.Wait()
}

// line waits for the child to say something that begins with word.
func (c *child) line(t *testing.T, word string) string {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case l, ok := <-c.lines:
			if !ok || strings.HasPrefix(l, "error") {
				t.Fatalf("the child ended: %s", l)
			}
			if rest, ok := strings.CutPrefix(l, word); ok {
				return strings.TrimSpace(rest)
			}
		case <-limit:
			t.Fatalf("the child never said %q", word)
		}
	}
}

// end lets the child finish and returns what else it said.
func (c *child) end(t *testing.T) (rest []string) {
	t.Helper()
	c.stdin.Close()
	for l := range c.lines {
		if strings.HasPrefix(l, "error") {
			t.Error(l)
		}
		rest = append(rest, l)
	}
	return rest
}

const counting = 8 // callers of childCounts

// childCounts increments counters, one per caller, and says which increments were acknowledged.
func childCounts(ctx context.Context, db *DB) error {
	errs := make(chan error, counting)
	for caller := range counting {
		go func() {
			for {
				if err := countUp(ctx, db, backend.NewKey("n", caller)); err != nil {
					errs <- err
					return
				}
				fmt.Printf("counted %d\n", caller)
			}
		}()
	}
	var err error
	for range counting {
		err = errors.Join(err, <-errs)
	}
	return err
}

// countUp commits asynchronously most of the time: only a power cut tells that from other commits.
func countUp(ctx context.Context, db *DB, key backend.Key) error {
	return db.Transact(ctx, func(tx backend.Tx) error {
		if rand.IntN(4) > 0 {
			backend.CommitAsync(tx)
		}
		value, err := tx.Get(key).Get()
		if err != nil {
			return err
		}
		n, err := backend.Counter(value)
		tx.Set(key, backend.CounterValue(n+1))
		tx.Append(backend.NewKey("log"), key)
		return err
	})
}

// What was acknowledged to a process that is killed then is there, and nothing twice: in each counter at most the one
// increment whose acknowledgement was on its way.
func TestKilledProcessLosesNothing(t *testing.T) {
	kills := 5
	if given, err := strconv.Atoi(os.Getenv("KILLS")); err == nil {
		kills = given
	}
	path := filled(t)
	var acknowledged [counting]int64
	for kill := range kills {
		var beside *DB
		if kill%2 == 1 { // another process has the file open all the time
			beside = openAt(t, path)
		}
		c := startChild(t, "count", path)
		first, ok := <-c.lines
		if !ok {
			t.Fatal("the child ended before it counted")
		}
		<-time.After(time.Duration(rand.IntN(100)) * time.Millisecond)
		c.kill()
		if beside != nil {
			mustSet(t, beside, "beside", strconv.Itoa(kill))
			if err := beside.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for l := range seq(first, c.lines) {
			caller, err := strconv.Atoi(strings.TrimPrefix(l, "counted "))
			if err != nil {
				break // the last line was cut
			}
			acknowledged[caller]++
		}
		stored, total := counted(t, path)
		for caller := range counting {
			if n := stored[caller] - acknowledged[caller]; n < 0 || n > 1 {
				t.Fatalf("kill %d: counter %d is %d, acknowledged %d", kill, caller, stored[caller], acknowledged[caller])
			}
		}
		acknowledged = stored
		if sum := sumOf(stored); total != sum {
			t.Fatalf("kill %d: %d increments and %d rows: a commit was torn", kill, sum, total)
		}
	}
}

// seq is first and what follows it.
func seq(first string, rest <-chan string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for l, ok := first, true; ok && yield(l); {
			l, ok = <-rest
		}
	}
}

func sumOf(counters [counting]int64) (sum int64) {
	for _, n := range counters {
		sum += n
	}
	return sum
}

// counted opens the file after a crash and returns the counters, and the rows of the log.
func counted(t *testing.T, path string) (n [counting]int64, rows int64) {
	t.Helper()
	db := openAt(t, path)
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		for caller := range counting {
			value, err := tx.Get(backend.NewKey("n", caller)).Get()
			if err != nil {
				return err
			}
			if n[caller], err = backend.Counter(value); err != nil {
				return err
			}
		}
		pairs, err := tx.GetRange(backend.NewKey("log").Below(), backend.RangeOptions{}).Get()
		rows = int64(len(pairs))
		return err
	})
	if err == nil {
		var ok string
		if ok, err = text(db.checkpoints.conn, "PRAGMA integrity_check"); ok != "ok" {
			t.Errorf("the file is damaged: %s", ok)
		}
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return n, rows
}

// childRaces increments one counter as fast as it can, and says how often that was.
func childRaces(ctx context.Context, db *DB) error {
	fmt.Println("ready")
	n := 0
	var err error
	for err == nil {
		if err = countUp(ctx, db, backend.NewKey("shared")); err == nil {
			n++
		}
	}
	fmt.Println("won", n)
	return err
}

// Two processes that commit as fast as they can, on the same key, both get on, and no increment is lost. One second in which
// a process hardly ran tells about the machine, so it takes several to say that one is starved.
func TestProcessesDoNotStarveEachOther(t *testing.T) {
	const seconds = 6
	path := filled(t)
	var all, least int
	for n := 1; ; n++ {
		var sum int
		sum, least = race(t, path)
		t.Logf("%d commits of two processes in a second, the slower one %d", sum, least)
		all += sum
		if least >= sum/10 {
			break
		}
		if n == seconds {
			t.Errorf("one of two processes got less than a tenth of the commits in each of %d seconds", seconds)
			break
		}
	}
	db := openAt(t, path)
	var stored int64
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		value, err := tx.Get(backend.NewKey("shared")).Get()
		stored, _ = backend.Counter(value)
		return err
	})
	if err != nil || stored != int64(all) {
		t.Errorf("the counter is %d, %v; %d increments were acknowledged", stored, err, all)
	}
}

// race lets two processes count for a second.
func race(t *testing.T, path string) (sum, least int) {
	t.Helper()
	racers := []*child{startChild(t, "race", path), startChild(t, "race", path)}
	for _, c := range racers {
		c.line(t, "ready")
	}
	<-time.After(time.Second)
	least = math.MaxInt
	for _, c := range racers {
		c.stdin.Close()
		n, err := strconv.Atoi(c.line(t, "won"))
		if err != nil {
			t.Fatal(err)
		}
		sum, least = sum+n, min(least, n)
	}
	for _, c := range racers {
		c.end(t)
	}
	return sum, least
}

// A process whose writer never rests leaves the lock to one that commits now and then.
func TestBusyProcessLeavesTheLockToOthers(t *testing.T) {
	path := filled(t)
	db := openAt(t, path)
	c := startChild(t, "count", path)
	c.line(t, "counted")
	const rounds = 50
	var times []time.Duration
	for i := range rounds {
		began := time.Now()
		mustSet(t, db, "ours", strconv.Itoa(i))
		times = append(times, time.Since(began))
	}
	c.end(t)
	expectQuick(t, "a commit beside a busy process", times)
}

// expectQuick checks that something that was done many times takes a few milliseconds. It judges by the quickest tenth,
// as on a machine that others keep busy the rest tells about those.
func expectQuick(t *testing.T, what string, times []time.Duration) {
	t.Helper()
	slices.Sort(times)
	n := len(times)
	t.Logf("%s took %v in the quickest tenth, %v in the middle, %v at most", what, times[n/10], times[n/2], times[n-1])
	if times[n/10] > 50*time.Millisecond {
		t.Errorf("%s took %v in the quickest tenth", what, times[n/10])
	}
}

// childWatches answers each change of "ping" with the same value in "pong".
func childWatches(ctx context.Context, db *DB) error {
	fmt.Println("ready")
	for last := ""; ; {
		var watch backend.Watch
		var value []byte
		err := db.Read(ctx, func(tx backend.ReadTx) (err error) {
			watch = tx.Watch(backend.NewKey("ping"))
			value, err = tx.Get(backend.NewKey("ping")).Get()
			return err
		})
		if err != nil {
			return err
		}
		if string(value) != last {
			last = string(value)
			if err := setKey(db, "pong", last); err != nil {
				return err
			}
		}
		select {
		case <-watch.Done():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A ping to another process and its pong back are two commits and two watches across processes.
func TestWatchesFireAcrossProcessesWithinMilliseconds(t *testing.T) {
	path := filled(t)
	db := openAt(t, path)
	c := startChild(t, "watch", path)
	c.line(t, "ready")
	const rounds = 50
	var times []time.Duration
	for i := range rounds {
		began := time.Now()
		mustSet(t, db, "ping", strconv.Itoa(i))
		for {
			watch := watchKey(t, db, "pong")
			if getKey(t, db, "pong") == strconv.Itoa(i) {
				break
			}
			awaitWatch(t, watch)
		}
		times = append(times, time.Since(began))
	}
	c.end(t)
	expectQuick(t, "ping and pong", times)
}
