package dserver_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// The order that is promised: if a message was acknowledged before another to the same server was sent, by anyone, it
// is handled first. So it is for one sender, and between senders that tell each other.

// sent is a message with the moments at which it was sent and acknowledged, on one clock.
type sent struct{ begun, acked int64 }

// registry of what was sent, by line.
type sendings struct {
	clock atomic.Int64
	mu    sync.Mutex
	all   map[string]sent
}

func (r *sendings) note(line string, begun int64) {
	acked := r.clock.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[line] = sent{begun, acked}
}

// misplaced returns two lines in the wrong order: the second was acknowledged before the first was sent.
func (r *sendings) misplaced(lines []string) (first, second string) {
	last := "" // of what follows, the one that was acknowledged first
	for i := len(lines) - 1; i >= 0; i-- {
		if last != "" && r.all[last].acked < r.all[lines[i]].begun {
			return lines[i], last
		}
		if last == "" || r.all[lines[i]].acked < r.all[last].acked {
			last = lines[i]
		}
	}
	return "", ""
}

func TestLongOrderIsThatOfAcknowledgements(t *testing.T) {
	random := seeded(t)
	rounds := 12
	if os.Getenv("LONG") != "" {
		rounds = 1000
	}
	for round := range rounds {
		if !t.Run(fmt.Sprint(round), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { order(t, random) })
		}) {
			return
		}
	}
}

// order runs senders in several processes, most of which run consumers, some of which come and go.
func order(t *testing.T, random *rand.Rand) {
	store := newStore(t, journals)
	lags := newLag(random, []time.Duration{time.Microsecond, time.Millisecond, 30 * time.Millisecond}[random.IntN(3)])
	types := slowJournals(lags)
	dbs := make([]backend.Database, 1+random.IntN(4))
	ctx, cancel := context.WithCancel(context.Background())
	var consumers sync.WaitGroup
	for i := range dbs {
		dbs[i] = lags.on(store.Open())
		if i > 0 && random.IntN(4) == 0 {
			continue // it only sends
		}
		stays := i == 0 || random.IntN(2) == 0
		choose := rand.New(rand.NewPCG(random.Uint64(), 0))
		consumers.Go(func() { comeAndGo(ctx, t, dbs[i], types, stays, choose) })
	}
	all := &sendings{all: map[string]sent{}}
	servers := []string{"a", "b"}[:1+random.IntN(2)]
	var senders sync.WaitGroup
	for i := range 2 + random.IntN(8) {
		choose := rand.New(rand.NewPCG(random.Uint64(), 0))
		senders.Go(func() {
			for j := range 25 {
				db, id, line := dbs[choose.IntN(len(dbs))], servers[choose.IntN(len(servers))], fmt.Sprintf("%d-%d", i, j)
				if err := all.send(db, id, line, choose); err != nil {
					t.Errorf("send %s: %v", line, err)
				}
				if choose.IntN(3) == 0 {
					lags.pause()
				}
			}
		})
	}
	senders.Wait()
	handled := 0
	for _, id := range servers {
		got := lines(t, journal.At(dbs[0], id))
		handled += len(got)
		if first, second := all.misplaced(got); first != "" {
			t.Errorf("%s is handled before %s, which was acknowledged before it was sent: %q", first, second, got)
		}
	}
	if handled != len(all.all) {
		t.Errorf("%d of %d messages were handled", handled, len(all.all))
	}
	cancel()
	consumers.Wait()
}

// slowJournals is journals whose handlers take a while now and then.
func slowJournals(lags *lag) *dserver.Definition[Journal] {
	return journals.With(dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Mark) error {
		lags.pause()
		j.write(m.Line)
		return nil
	}))
}

// comeAndGo runs a consumer, which ends now and then unless it stays.
func comeAndGo(ctx context.Context, t *testing.T, db backend.Database, types dserver.Type, stays bool, choose *rand.Rand) {
	for ctx.Err() == nil {
		limit := time.Duration(1+choose.IntN(100)) * time.Millisecond
		if stays {
			limit = 24 * time.Hour
		}
		until, cancel := context.WithTimeout(ctx, limit)
		if err := dserver.Run(until, db, types); err != nil {
			t.Errorf("Run: %v", err)
		}
		cancel()
	}
}

// send sends one line, or a few together, in some way.
func (r *sendings) send(db backend.Database, id, line string, choose *rand.Rand) error {
	s := journal.At(db, id)
	lines, ctx := []string{line}, context.Background()
	begun := r.clock.Add(1)
	var err error
	switch choose.IntN(5) {
	case 0, 1:
		err = s.Cast(ctx, Write{line})
	case 2:
		err = s.Call(ctx, Append{Line: line}, nil)
	case 3:
		lines = []string{line + "-0", line + "-1"}
		err = s.CastAll(ctx, []any{Write{lines[0]}, Write{lines[1]}})
	case 4:
		err = s.Cast(ctx, Mark{line})
	}
	for _, line := range lines {
		r.note(line, begun)
	}
	return err
}

// A queue that is longer than a batch, in messages or in bytes, is taken whole before a message of this process joins.
func TestArrivalsComeAfterAllThatIsStored(t *testing.T) {
	random := seeded(t)
	for name, size := range map[string]int{"many": 10, "large": 60 << 10, "larger than a batch": 2 << 20} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				types := journals.With(dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Load) error {
					j.write(m.Line)
					return nil
				}))
				store := newStore(t, types)
				db := store.Open()
				s := types.At(db, "a")
				n := min(600, 10<<20/size)
				for i := range n {
					must(t, s.Cast(context.Background(), Load{fmt.Sprint(i), make([]byte, size)}))
				}
				slow := newLag(random, 5*time.Millisecond).on(db)
				run(t, dserver.Consumer{}, slow, types)
				want := numbered("", n)
				for i := 0; ; i++ { // while there are more
					must(t, types.At(slow, "a").Cast(context.Background(), Write{fmt.Sprint("beside ", i)}))
					status, err := s.Status(context.Background())
					must(t, err)
					want = append(want, fmt.Sprint("beside ", i))
					if status.Queued == 0 {
						break
					}
				}
				expectLines(t, lines(t, s), want...)
			})
		})
	}
}

// Load is a message of any size.
type Load struct {
	Line string
	Data []byte
}
