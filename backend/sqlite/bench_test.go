//go:build linux

package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend"
)

// Each benchmark runs a load and its hand-written baseline in turns, on the same disk in the same run, and reports
// calls a second of both, their ratio (the median over the rounds), processor time and bytes written a call. Absolute
// figures say something of a machine on a day; the ratios say something of this package.
//
//	go test ./backend/sqlite -run '^$' -bench . -benchtime 20x

// contestant is one of the two that are compared: what a caller does again and again.
type contestant struct {
	name string
	call func(caller int, random *rand.Rand) error
}

const roundTime = 100 * time.Millisecond

// cost is what a round took.
type cost struct {
	calls   int64
	seconds float64
	cpu     time.Duration
	bytes   int64
	allocs  int64
}

func (c cost) rate() float64 { return float64(c.calls) / c.seconds }

func usedSoFar(b *testing.B) cost {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return cost{cpu: time.Duration(u.Utime.Nano() + u.Stime.Nano()), bytes: writtenSoFar(b), allocs: int64(m.Mallocs)}
}

// writtenSoFar is what this process has sent to the disk.
func writtenSoFar(b *testing.B) int64 {
	io, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0 // some containers hide it; the metric is then 0
	}
	for line := range bytes.Lines(io) {
		if n, ok := bytes.CutPrefix(line, []byte("write_bytes: ")); ok {
			written, err := strconv.ParseInt(string(bytes.TrimSpace(n)), 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return written
		}
	}
	return 0
}

// round lets callers call c for a time.
func round(b *testing.B, c contestant, callers int) cost {
	before, began := usedSoFar(b), time.Now()
	var calls atomic.Int64
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(caller), 1))
			n := int64(0)
			for time.Since(began) < roundTime {
				if err := c.call(caller, random); err != nil {
					b.Error(err)
					return
				}
				n++
			}
			calls.Add(n)
		})
	}
	all.Wait()
	after := usedSoFar(b)
	return cost{calls.Load(), time.Since(began).Seconds(), after.cpu - before.cpu, after.bytes - before.bytes,
		after.allocs - before.allocs}
}

// compare reports the load against its baseline.
func compare(b *testing.B, callers int, baseline, load contestant) {
	var base, ours []cost
	round(b, baseline, callers) // the files reach their size
	round(b, load, callers)
	b.ResetTimer()
	for b.Loop() {
		base = append(base, round(b, baseline, callers))
		ours = append(ours, round(b, load, callers))
	}
	var ratios []float64
	for i := range base {
		ratios = append(ratios, ours[i].rate()/base[i].rate())
	}
	b.ReportMetric(median(ratios), "ratio")
	report(b, baseline.name, base)
	report(b, load.name, ours)
	b.ReportMetric(0, "ns/op") // a pair of rounds: says nothing
}

func report(b *testing.B, name string, costs []cost) {
	of := func(f func(c cost) float64) float64 {
		var all []float64
		for _, c := range costs {
			all = append(all, f(c))
		}
		return median(all)
	}
	perCall := func(n func(c cost) float64) float64 {
		return of(func(c cost) float64 { return n(c) / float64(c.calls) })
	}
	b.ReportMetric(of(cost.rate), name+"-calls/s")
	b.ReportMetric(perCall(func(c cost) float64 { return float64(c.cpu.Nanoseconds()) / 1000 }), name+"-cpu-us")
	b.ReportMetric(perCall(func(c cost) float64 { return float64(c.bytes) }), name+"-B")
	b.ReportMetric(perCall(func(c cost) float64 { return float64(c.allocs) }), name+"-allocs")
}

func median(x []float64) float64 {
	x = slices.Clone(x)
	slices.Sort(x)
	return x[len(x)/2]
}

// counters is the table that one would write by hand for counters alone.
type counters struct {
	conn *driver.Conn
	add  *driver.Stmt
}

func openCounters(b *testing.B) *counters {
	conn, err := driver.OpenConn(filepath.Join(b.TempDir(), "hand.db"), driver.OpenReadWrite, driver.OpenCreate)
	if err != nil {
		b.Fatal(err)
	}
	err = executeAll(conn, append(append(filePragmas(), syncPragmas(options{})...),
		"CREATE TABLE counters (id TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID")...)
	if err != nil {
		b.Fatal(err)
	}
	c := &counters{conn: conn}
	c.add, err = conn.Prepare("INSERT INTO counters VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET n = n + 1 RETURNING n")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return c
}

func (c *counters) increment(id int) error {
	c.add.BindText(1, "visits-"+strconv.Itoa(id))
	return drain(c.add)
}

// hand is baseline (b): one goroutine that gathers the waiting increments into one transaction.
type hand struct {
	table   *counters
	waiting chan *increment
}

type increment struct {
	id   int
	err  error
	done chan struct{}
}

func openHand(b *testing.B) *hand {
	h := &hand{table: openCounters(b), waiting: make(chan *increment, 1024)}
	var ended sync.WaitGroup
	ended.Go(h.run)
	b.Cleanup(func() { close(h.waiting); ended.Wait() })
	return h
}

func (h *hand) run() {
	begin, end := h.table.conn.Prep("BEGIN IMMEDIATE"), h.table.conn.Prep("COMMIT")
	var group []*increment
	for first := range h.waiting {
		group = append(group[:0], first)
		for more := true; more; {
			select {
			case i := <-h.waiting:
				group = append(group, i)
			default:
				more = false
			}
		}
		err := drain(begin)
		for _, i := range group {
			if err == nil {
				err = h.table.increment(i.id)
			}
		}
		if err == nil {
			err = drain(end)
		}
		for _, i := range group {
			i.err = err
			i.done <- struct{}{}
		}
	}
}

func (h *hand) call(callers, servers int) contestant {
	slots := make([]*increment, callers)
	for i := range slots {
		slots[i] = &increment{done: make(chan struct{}, 1)}
	}
	return contestant{"hand", func(caller int, random *rand.Rand) error {
		i := slots[caller]
		i.id = random.IntN(servers)
		h.waiting <- i
		<-i.done
		return i.err
	}}
}

// server is a server's keys, as a consumer's turn uses them.
type server struct {
	tenant, version, lock, state backend.Key
	head                         backend.Range
}

func servers(n int) []server {
	all := make([]server, n)
	for i := range all {
		tenant := backend.NewKey("counter", fmt.Sprintf("visits-%d", i))
		all[i] = server{tenant, tenant.Str("v"), tenant.Str("k"), tenant.Str("s").Str("Count"), tenant.Below()}
	}
	return all
}

// fill writes what a server at rest has: its version, its state and its time of birth.
func fill(b *testing.B, db *DB, all []server) {
	for chunk := range slices.Chunk(all, 100) {
		err := db.Transact(context.Background(), func(tx backend.Tx) error {
			for _, s := range chunk {
				tx.Stamp(s.version)
				tx.Set(s.state, backend.CounterValue(0))
				tx.Set(s.tenant.Str("m"), []byte("created"))
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// turn is the transaction of a turn with one message that came inline.
func (s *server) turn(db *DB, n int64) error {
	return db.Transact(context.Background(), func(tx backend.Tx) error {
		_, err := tx.GetRange(s.head, backend.RangeOptions{Snapshot: true}).Get()
		tx.Conflict(s.version)
		tx.Conflict(s.lock)
		tx.Set(s.state, backend.CounterValue(n))
		tx.Stamp(s.version)
		return err
	})
}

func BenchmarkOneCaller(b *testing.B) {
	table := openCounters(b)
	db, all := openTest(b), servers(1)
	fill(b, db, all)
	n := int64(0)
	compare(b, 1, contestant{"hand", func(int, *rand.Rand) error { return table.increment(0) }},
		contestant{"transact", func(int, *rand.Rand) error { n++; return all[0].turn(db, n) }})
}

func BenchmarkOneCallerTwoSets(b *testing.B) {
	table := openCounters(b)
	db, all := openTest(b), servers(1)
	fill(b, db, all)
	n := int64(0)
	s := &all[0]
	compare(b, 1, contestant{"hand", func(int, *rand.Rand) error { return table.increment(0) }},
		contestant{"transact", func(int, *rand.Rand) error {
			return db.Transact(context.Background(), func(tx backend.Tx) error {
				n++
				_, err := tx.GetRange(s.head, backend.RangeOptions{}).Get()
				tx.Set(s.state, backend.CounterValue(n))
				tx.Set(s.version, backend.CounterValue(n))
				return err
			})
		}})
}

func BenchmarkGroup(b *testing.B) {
	for _, load := range []struct{ callers, servers int }{{64, 1000}, {256, 1000}, {256, 10000}} {
		b.Run(fmt.Sprintf("%dx%d", load.callers, load.servers), func(b *testing.B) {
			h := openHand(b)
			db, all := openTest(b), servers(load.servers)
			fill(b, db, all)
			compare(b, load.callers, h.call(load.callers, load.servers),
				contestant{"transact", func(caller int, random *rand.Rand) error {
					// Callers have servers of their own, as turns of one server do not race in a process.
					s := caller + load.callers*random.IntN(load.servers/load.callers)
					return all[s].turn(db, random.Int64())
				}})
		})
	}
}

// BenchmarkPush is what senders do: blind pushes to one server.
func BenchmarkPush(b *testing.B) {
	h := openHand(b)
	db := openTest(b)
	queue, count := backend.NewKey("counter", "visits", "q"), backend.NewKey("counter", "visits", "n")
	ready, bell := backend.NewKey("ready", "counter", 3, "visits"), backend.NewKey("bell", "counter", 3)
	message := bytes.Repeat([]byte("m"), 40)
	compare(b, 64, h.call(64, 1), contestant{"transact", func(int, *rand.Rand) error {
		return db.Transact(context.Background(), func(tx backend.Tx) error {
			tx.Append(queue, message)
			tx.Add(count, 1)
			tx.Set(ready, nil)
			tx.Add(bell, 1)
			return nil
		})
	}})
}
