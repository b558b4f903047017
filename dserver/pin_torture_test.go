package dserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
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

// Berth is a state of the torture of pins: it tells what came to it, in which order, and on which host it was changed last.
type Berth struct {
	Host  string
	Hosts int              // how many times it was another one than before
	Got   map[string][]int // by sender, the numbers in the order in which they took effect
	Wound map[string]int   // timers that were set, by name
	Rung  map[string]int   // timers that fired, and what was delayed
}

// on notes a change on a host.
func (b *Berth) on(host string) {
	if b.Host != host {
		b.Host = host
		b.Hosts++
	}
}

type (
	Dock struct { // a numbered message
		Sender string
		N      int
		Takes  time.Duration // by the handler
	}
	Moor struct { // a numbered message that sets a timer
		Sender string
		N      int
		In     time.Duration
	}
	Haul struct { // a numbered message that is done under the lock
		Sender string
		N      int
		Takes  time.Duration // by the work
	}
	Strike struct{ Name string } // a timer's, or a delayed message
	Spot   struct{}              // Info
)

// berthBegins is the label under which berths begin.
const berthBegins = "a"

func berths(host string) *dserver.Definition[Berth] {
	return dserver.Define("berth",
		dserver.Settings[Berth]{Label: berthBegins, MaxAttempts: 1000},
		dserver.HandleCast(func(_ *dserver.Context, b *Berth, m Dock) error {
			if m.Takes > 0 {
				<-time.After(m.Takes)
			}
			b.on(host)
			b.Got[m.Sender] = append(b.Got[m.Sender], m.N)
			return nil
		}),
		dserver.HandleCast(func(ctx *dserver.Context, b *Berth, m Moor) error {
			b.on(host)
			b.Got[m.Sender] = append(b.Got[m.Sender], m.N)
			name := fmt.Sprint("timer ", m.Sender, " ", m.N)
			b.Wound[name]++
			ctx.SetTimer(name, m.In, Strike{name})
			return nil
		}),
		dserver.HandleLocked(func(ctx *dserver.LockedContext, _ Berth, m Haul) (string, error) {
			select {
			case <-time.After(m.Takes):
			case <-ctx.Done():
			}
			return host, ctx.Err()
		}, func(_ *dserver.Context, b *Berth, m Haul, worked string) error {
			if worked != host {
				return fmt.Errorf("%s worked, and %s applies it", worked, host)
			}
			b.on(host)
			b.Got[m.Sender] = append(b.Got[m.Sender], m.N)
			return nil
		}),
		dserver.HandleCast(func(_ *dserver.Context, b *Berth, m Strike) error {
			b.on(host)
			b.Rung[m.Name]++
			return nil
		}),
		dserver.HandleInfo(func(_ *dserver.Context, b *Berth, _ Spot) error {
			b.on(host)
			b.Rung["spotted"]++
			return nil
		}),
	)
}

// pinHistory is a place in the store where each pin, and each change of a server, is written down by the very commit that it
// is in. The store puts them into the order of the commits (backend.Tx.Append), and reads nothing for it, so that no conflict
// comes of it that would not be there without it. So the label that a server had at a commit is that of the last pin before.
var pinHistory = backend.NewKey("history")

// pinEvent is what one commit did to a server.
type pinEvent struct {
	Server  string
	Pin     *string // it was pinned to this
	Changed bool    // its state, its lock, its attempts or its dead letters
	Host    string
	Labels  []string // that the host lists
}

// pinnedDB is the store as one host sees it.
type pinnedDB struct {
	backend.Database
	host   string
	labels []string
}

func (d *pinnedDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	return d.Database.Transact(ctx, func(tx backend.Tx) error {
		noted := &pinnedTx{Tx: tx}
		if err := fn(backend.Wrapped(noted, tx)); err != nil {
			return err
		}
		for _, e := range noted.events {
			e.Host, e.Labels = d.host, d.labels
			if ctx.Value(isInfo{}) != nil { // in a process without a consumer, before it has begun or when it has ended
				e.Labels = append(slices.Clone(d.labels), "")
			}
			row, err := json.Marshal(e)
			if err != nil {
				return err
			}
			tx.Append(pinHistory, row)
		}
		return nil
	})
}

// isInfo marks the context of an Info.
type isInfo struct{}

// pinnedTx notes what a transaction does to servers.
type pinnedTx struct {
	backend.Tx
	events []*pinEvent
}

func (tx *pinnedTx) Set(key backend.Key, value []byte) {
	tx.note(key, value)
	tx.Tx.Set(key, value)
}

func (tx *pinnedTx) Clear(r backend.Range) {
	tx.note(r.Begin, nil)
	tx.Tx.Clear(r)
}

func (tx *pinnedTx) Add(key backend.Key, delta int64) {
	tx.note(key, nil)
	tx.Tx.Add(key, delta)
}

func (tx *pinnedTx) Append(prefix backend.Key, value []byte) {
	tx.note(prefix, value)
	tx.Tx.Append(prefix, value)
}

func (tx *pinnedTx) Stamp(key backend.Key) {
	tx.note(key, nil)
	tx.Tx.Stamp(key)
}

// note sorts keys (docs/keys.md). What all may write is no change: messages that are sent or become due, the marks, a lock
// that its holder gives up.
func (tx *pinnedTx) note(key backend.Key, value []byte) {
	elements, err := key.Elements()
	if err != nil || len(elements) < 4 || elements[0] != "s" || elements[1] != "berth" {
		return
	}
	id, _ := elements[2].(string)
	i := slices.IndexFunc(tx.events, func(e *pinEvent) bool { return e.Server == id })
	e := &pinEvent{Server: id}
	if i >= 0 {
		e = tx.events[i]
	}
	switch section := elements[3]; {
	case section == "h" && len(elements) == 5 && elements[4] == "p":
		label := string(value)
		e.Pin = &label
	case section == "h" && (len(elements) == 4 || elements[4] == "a" || elements[4] == "k"), section == "s", section == "d", section == "w":
		e.Changed = true
	default:
		return
	}
	if i < 0 {
		tx.events = append(tx.events, e)
	}
}

// judgeHistory expects each change to be by a host that listed the label at that commit, and removes the history.
func judgeHistory(t *testing.T, db backend.Database, pins int) {
	t.Helper()
	labels, changes, seen, wrong := map[string]string{}, 0, 0, 0
	for rest, more := pinHistory.Below(), true; more; {
		var pairs []backend.KeyValue
		must(t, db.Read(context.Background(), func(tx backend.ReadTx) (err error) {
			pairs, err = tx.GetRange(rest, backend.RangeOptions{Limit: 1000}).Get()
			return err
		}))
		for _, pair := range pairs {
			var e pinEvent
			must(t, json.Unmarshal(pair.Value, &e))
			if e.Pin != nil {
				labels[e.Server] = *e.Pin
				seen++
			}
			if !e.Changed {
				continue
			}
			changes++
			label, isPinned := labels[e.Server]
			if !isPinned {
				label = berthBegins
			}
			if slices.Contains(e.Labels, label) {
				continue
			}
			if wrong++; wrong < 10 {
				t.Errorf("%s, which lists %q, changed %s when that was pinned to %q", e.Host, e.Labels, e.Server, label)
			}
		}
		if more = len(pairs) == 1000; more {
			rest = rest.After(pairs[len(pairs)-1].Key)
		}
	}
	if seen < pins || changes == 0 {
		t.Errorf("the history has %d pins of %d, and %d changes: it shows nothing", seen, pins, changes)
	}
	must(t, db.Transact(context.Background(), func(tx backend.Tx) error {
		tx.Clear(pinHistory.Tree())
		return nil
	}))
}

// lodge runs a consumer that lists labels.
func lodge(ctx context.Context, db backend.Database, o consumer.Options, types dserver.Type) error {
	o.Logger = zerolog.Nop()
	return consumer.Run(ctx, db, o, kit.Definitions([]dserver.Type{types})...)
}

// voyage is what was sent to pinned servers, and what the senders were told.
type voyage struct {
	ids    []string
	labels []string

	mu      sync.Mutex
	sent    map[string]map[string]int  // by server and sender, the last number
	unsure  map[string]map[string]bool // by server, what may have been sent or not
	delayed map[string][]string        // by server, the names of delayed messages
}

func newVoyage() *voyage {
	v := &voyage{
		ids: numbered("b", 12), labels: []string{"", "a", "b", "c", "d"},
		sent: map[string]map[string]int{}, unsure: map[string]map[string]bool{}, delayed: map[string][]string{},
	}
	for _, id := range v.ids {
		v.sent[id], v.unsure[id] = map[string]int{}, map[string]bool{}
	}
	return v
}

// someLabels are those that a host lists for one life.
func (v *voyage) someLabels(random *rand.Rand) []string {
	labels := slices.Clone(v.labels[:len(v.labels)-random.IntN(2)])
	random.Shuffle(len(labels), func(i, j int) { labels[i], labels[j] = labels[j], labels[i] })
	return labels[:1+random.IntN(3)]
}

// send sends one message of a sender, through whichever handle of the store its process has.
func (v *voyage) send(ctx context.Context, open func() (backend.Database, *dserver.Definition[Berth]), sender string, random *rand.Rand, most time.Duration) error {
	id := v.ids[random.IntN(len(v.ids))]
	v.mu.Lock()
	n := v.sent[id][sender] + 1
	v.sent[id][sender] = n
	v.mu.Unlock()
	some := func() time.Duration { return time.Duration(random.Int64N(int64(most))) }
	var message any
	var how []dserver.Option
	what := fmt.Sprint(sender, " ", n)
	switch random.IntN(10) {
	case 0:
		message = Moor{sender, n, 10 * some()}
	case 1, 2:
		message = Haul{sender, n, some()}
	case 3, 4:
		message = Dock{sender, n, some()}
	case 5:
		what = fmt.Sprint("delayed ", sender, " ", n)
		how = append(how, dserver.After(10*some()))
		v.mu.Lock()
		v.sent[id][sender]-- // it has no number
		what = fmt.Sprint(what, " ", len(v.delayed[id]))
		message = Strike{what}
		v.delayed[id] = append(v.delayed[id], what)
		v.mu.Unlock()
	default:
		message = Dock{sender, n, 0}
	}
	for {
		db, def := open()
		err := def.At(db, id).Cast(ctx, message, how...)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, backend.ErrCommitUnknown):
			v.mu.Lock()
			defer v.mu.Unlock()
			v.unsure[id][what] = true
			return nil
		case !errors.Is(err, backend.ErrClosed):
			return fmt.Errorf("%+v to %s: %w", message, id, err)
		}
		<-time.After(time.Second) // the process starts again
	}
}

// settle waits until all is done, and judges it.
func (v *voyage) settle(t *testing.T, db backend.Database, def *dserver.Definition[Berth]) {
	t.Helper()
	eventually(t, "all is handled", func() bool {
		for _, id := range v.ids {
			state, err := def.At(db, id).State(within(t))
			if err != nil && !errors.Is(err, dserver.ErrNotFound) {
				t.Fatal(err)
			}
			s := statusOf(t, def.At(db, id))
			if s.Queued > 0 || s.Locked || len(state.Wound) > 0 && !allRung(state) {
				return false
			}
		}
		return rows(t, db, "r")+rows(t, db, "w")+rows(t, db, "t") == 0
	})
	for _, id := range v.ids {
		v.judge(t, def.At(db, id))
	}
	eventually(t, "nothing leads to servers that have nothing to do", func() bool {
		for key := range keysBelow(t, db, "l") {
			if elements, err := key.Elements(); err != nil || len(elements) > 2 {
				return false
			}
		}
		return true
	})
}

func allRung(b Berth) bool {
	for name := range b.Wound {
		if b.Rung[name] == 0 {
			return false
		}
	}
	return true
}

// judge compares one server with what was sent to it.
func (v *voyage) judge(t *testing.T, s *dserver.DServer[Berth]) {
	t.Helper()
	id := s.Ref().ID
	state, err := s.State(within(t))
	if err != nil && !errors.Is(err, dserver.ErrNotFound) {
		t.Fatal(err)
	}
	if dead := letters(t, s); len(dead) > 0 {
		t.Errorf("%s: %d messages are set aside, the first with %+v", id, len(dead), dead[0])
	}
	for sender, last := range v.sent[id] {
		var want []int
		for n := range last {
			if n++; !v.unsure[id][fmt.Sprint(sender, " ", n)] || slices.Contains(state.Got[sender], n) {
				want = append(want, n)
			}
		}
		if got := state.Got[sender]; !slices.Equal(got, want) {
			t.Errorf("%s has %v of %s, want %v", id, got, sender, want)
		}
		delete(state.Got, sender)
	}
	if len(state.Got) > 0 {
		t.Errorf("%s has %v, which nobody sent", id, state.Got)
	}
	want := state.Wound
	if want == nil {
		want = map[string]int{}
	}
	for _, name := range v.delayed[id] {
		if !v.unsure[id][name] || state.Rung[name] > 0 {
			want[name]++
		}
	}
	delete(state.Rung, "spotted")
	for name := range want {
		if n := state.Rung[name]; n != 1 || want[name] != 1 {
			t.Errorf("%s: %s was set %d times and came %d times", id, name, want[name], n)
		}
		delete(state.Rung, name)
	}
	if len(state.Rung) > 0 {
		t.Errorf("%s: %v came, and was not set", id, state.Rung)
	}
}

// Servers are pinned here and there while they are sent to, set timers and work under their locks, and while consumers die,
// come back and list other labels, on a store that is slow and fails: nothing is lost, doubled or reordered, and nothing is
// committed by a consumer that does not list the label of the server at that commit.
func TestLongPinnedServersLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	rounds := 4
	if isLong() {
		rounds = 400
	}
	for round := range rounds {
		if !t.Run(fmt.Sprint(round), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { pinsInABubble(t, random) })
		}) {
			return
		}
	}
}

// lodger is a process of such a voyage, which has several lives.
type lodger struct {
	mu  sync.Mutex
	db  backend.Database
	def *dserver.Definition[Berth]
}

func (h *lodger) now() (backend.Database, *dserver.Definition[Berth]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.db, h.def
}

func pinsInABubble(t *testing.T, random *rand.Rand) {
	store, v := backendtest.NewStore(), newVoyage()
	rate := []float64{0, 0.002, 0.02}[random.IntN(3)]
	lags := newLag(random, []time.Duration{time.Millisecond, 30 * time.Millisecond}[random.IntN(2)])
	ctx, end := context.WithCancel(context.Background())
	var hosts []*lodger
	var lives, senders sync.WaitGroup
	for i := range 4 {
		h, choose, ready := new(lodger), rand.New(rand.NewPCG(random.Uint64(), 0)), make(chan struct{})
		hosts = append(hosts, h)
		begin := sync.OnceFunc(func() { close(ready) })
		var name string
		var labels []string
		open := backendtest.Chaos(func(testing.TB) func() backend.Database {
			return func() backend.Database { return &pinnedDB{store.Open(), name, labels} }
		}, rate)(t)
		lives.Go(func() {
			for life := 0; ctx.Err() == nil; life++ {
				name, labels = fmt.Sprint("host ", i, ", life ", life), v.someLabels(choose)
				db := lags.on(open())
				h.mu.Lock()
				h.db, h.def = db, berths(name)
				h.mu.Unlock()
				begin()
				living, die := context.WithTimeout(ctx, time.Duration(choose.IntN(30_000))*time.Millisecond)
				if rate == 0 && life%2 == 0 { // else the faults kill it: two who close a handle at once would wait at a mutex
					context.AfterFunc(living, func() { _ = db.Close() })
				}
				o := consumer.Options{Labels: labels, Park: choose.IntN(2) == 0, Rival: choose.IntN(4) == 0}
				if err := lodge(living, db, o, h.def); err != nil && !errors.Is(err, backend.ErrClosed) {
					t.Errorf("%s: %v", name, err)
				}
				die()
			}
		})
		<-ready
	}
	for i := range 6 {
		choose := rand.New(rand.NewPCG(random.Uint64(), 0))
		senders.Go(func() {
			for range 60 {
				h := hosts[choose.IntN(len(hosts))]
				if err := v.send(t.Context(), h.now, fmt.Sprint("sender ", i), choose, time.Second); err != nil {
					t.Error(err)
				}
				if choose.IntN(4) == 0 { // another way to commit
					db, def := h.now()
					err := def.At(db, v.ids[choose.IntN(len(v.ids))]).Info(context.WithValue(t.Context(), isInfo{}, true), Spot{})
					if err != nil && !errors.Is(err, dserver.ErrElsewhere) && !errors.Is(err, backend.ErrClosed) && !errors.Is(err, backend.ErrCommitUnknown) {
						t.Errorf("Info: %v", err)
					}
				}
				<-time.After(time.Duration(choose.IntN(2000)) * time.Millisecond)
			}
		})
	}
	operator := &pinnedDB{store.Open(), "operator", nil}
	def, pins := berths("operator"), 100
	for range pins {
		must(t, def.At(operator, v.ids[random.IntN(len(v.ids))]).Pin(t.Context(), v.labels[random.IntN(len(v.labels))]))
		<-time.After(time.Duration(random.IntN(1000)) * time.Millisecond)
	}
	senders.Wait()
	end()
	lives.Wait()
	last := &pinnedDB{store.Open(), "last", v.labels}
	over, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- lodge(over, last, consumer.Options{Labels: v.labels}, berths("last")) }()
	<-time.After(5 * time.Minute) // it looks for that less often than eventually does
	v.settle(t, store.Open(), def)
	stop()
	must(t, <-ended)
	judgeHistory(t, store.Open(), pins/2)
	check(t, store.Open(), def)
}

// pinsEnv tells a child process its name, its labels and its database.
const pinsEnv = "DSERVER_PINS_CHILD"

// TestPinsChild is a process of TestPinsOfKilledProcesses.
func TestPinsChild(t *testing.T) {
	what := os.Getenv(pinsEnv)
	if what == "" {
		t.Skip("the child process of another test")
	}
	var name, labels, place string
	_, err := fmt.Sscanf(what, "%q %q %q", &name, &labels, &place)
	must(t, err)
	db := openNamed(t, place)
	defer db.Close()
	host := &pinnedDB{db, name, strings.Split(labels, ",")}
	must(t, lodge(untilOrphaned(), host, consumer.Options{Labels: host.labels, Beat: 100 * time.Millisecond}, berths(name)))
}

// The same with processes that are killed, on each store.
func TestPinsOfKilledProcesses(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	moves := 60
	if isLong() {
		moves = 1000
	}
	eachNamedStore(t, func(t *testing.T, place func(testing.TB) string) {
		name, v := place(t), newVoyage()
		db := &pinnedDB{openNamed(t, name), "operator", nil}
		t.Cleanup(func() { must(t, db.Database.Close()) })
		def := berths("operator")

		children, begun := newBrood(t), 0
		begin := func(labels []string) {
			begun++
			what := fmt.Sprintf("%q %q %q", fmt.Sprint("process ", begun), strings.Join(labels, ","), name)
			children.begin(childOf("TestPinsChild", pinsEnv, what))
		}

		ctx, stop := context.WithCancel(t.Context())
		var senders sync.WaitGroup
		for i := range 3 {
			choose := rand.New(rand.NewPCG(random.Uint64(), 0))
			senders.Go(func() {
				for ctx.Err() == nil {
					open := func() (backend.Database, *dserver.Definition[Berth]) { return db, def }
					if err := v.send(t.Context(), open, fmt.Sprint("sender ", i), choose, 20*time.Millisecond); err != nil {
						t.Error(err)
						return
					}
					<-time.After(time.Duration(choose.IntN(20)) * time.Millisecond)
				}
			})
		}
		for move := range moves {
			if n := len(children.living); n < 3 {
				begin(v.someLabels(random))
			} else if random.IntN(8) == 0 {
				children.end(random.IntN(n), random.IntN(4) > 0)
			}
			id, label := v.ids[random.IntN(len(v.ids))], v.labels[random.IntN(len(v.labels))]
			if err := def.At(db, id).Pin(t.Context(), label); err != nil {
				t.Errorf("move %d, of %s to %q: %v", move, id, label, err)
			}
			<-time.After(time.Duration(random.IntN(60)) * time.Millisecond)
		}
		stop()
		senders.Wait()
		children.endAll(func() (kill bool) { return random.IntN(2) == 0 })
		begin(v.labels)
		v.settle(t, db.Database, def)
		children.end(0, false)
		judgeHistory(t, db.Database, moves/2)
		check(t, db.Database, def)
	})
}
