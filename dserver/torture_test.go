package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// Station is a state of the torture: parcels pass through it, and each may come once.
type Station struct {
	Seen map[string]int
}

type (
	// Pass goes on to the stations of Route, in their order, each hop a message in its sender's commit.
	Pass struct {
		ID    string
		Route []string
		End   string // at its last station: "", "refuse" or "break"
	}
	// Visit is Pass as a call, answered with what it was asked.
	Visit struct {
		dserver.Returns[string]
		Pass
	}
)

func stations(actions *tally, attempts int) *dserver.Definition[Station] {
	pass := func(ctx *dserver.Context, s *Station, m Pass) error {
		s.Seen[m.ID]++
		ctx.AfterCommit(func() { actions.add(fmt.Sprint(m.ID, " with ", len(m.Route), " to go")) })
		if len(m.Route) > 0 {
			ctx.Cast(dserver.Ref{Type: "station", ID: m.Route[0]}, Pass{m.ID, m.Route[1:], m.End})
			return nil
		}
		switch m.End {
		case "refuse":
			return errDenied
		case "break":
			panic("broken " + m.ID)
		}
		return nil
	}
	return dserver.Define("station",
		dserver.Settings[Station]{MaxAttempts: attempts},
		dserver.Init(func(_ *dserver.Context, s *Station) error { s.Seen["init"]++; return nil }),
		dserver.HandleCast(pass),
		dserver.HandleCall(func(ctx *dserver.Context, s *Station, m Visit) (string, error) { return m.ID, pass(ctx, s, m.Pass) }),
	)
}

// tally counts, from several goroutines.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *tally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[what]++
}

// parcelFate is what the sender of a Pass was told.
type parcelFate struct {
	Pass
	first   string // station
	call    bool
	unknown bool
}

func (p parcelFate) route() []string { return append([]string{p.first}, p.Route...) }

func TestLongTortureLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	rounds := 10
	if os.Getenv("LONG") != "" {
		rounds = 1000
	}
	for round := range rounds {
		if !t.Run(fmt.Sprint(round), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				torture(t, random, newStore(t).Open, torturePace{attempts: 5, answer: time.Hour, rest: time.Hour})
			})
		}) {
			return
		}
	}
}

// torturePace is how long things may take.
type torturePace struct {
	attempts int           // of what breaks
	answer   time.Duration // of a call
	rest     time.Duration // at the end, in which all is handled
}

// torture runs a random program in processes that die at random commits, and compares what is left with what the
// senders were told.
func torture(t *testing.T, random *rand.Rand, healthy func() backend.Database, pace torturePace) {
	actions := &tally{n: map[string]int{}}
	types := stations(actions, pace.attempts)
	rate := []float64{0, 0.01, 0.05, 0.2}[random.IntN(4)]
	open := backendtest.Chaos(func(testing.TB) func() backend.Database { return healthy }, rate)(t)
	lags := newLag(random, []time.Duration{time.Microsecond, time.Millisecond, 30 * time.Millisecond}[random.IntN(3)])
	ctx, cancel := context.WithCancel(context.Background())
	var nodes []*node
	for i := range 1 + random.IntN(4) {
		nodes = append(nodes, startNode(ctx, t, func() backend.Database { return lags.on(open()) }, i == 0 || random.IntN(2) == 0, types))
	}
	ids := numbered("s", 1+random.IntN(6))
	fates := make([][]parcelFate, 1+random.IntN(8))
	var senders sync.WaitGroup
	for i := range fates {
		choose := rand.New(rand.NewPCG(random.Uint64(), 0))
		senders.Go(func() {
			for j := range 12 {
				p := parcelFate{Pass: Pass{ID: fmt.Sprintf("%d-%d", i, j)}, first: ids[choose.IntN(len(ids))], call: choose.IntN(2) == 0}
				for range choose.IntN(3) {
					p.Route = append(p.Route, ids[choose.IntN(len(ids))])
				}
				p.Route = slices.Compact(p.Route)
				p.End = []string{"", "", "", "refuse", "break"}[choose.IntN(5)]
				if err := p.send(nodes[choose.IntN(len(nodes))].db, types, pace.answer); err != nil {
					t.Errorf("%+v: %v", p, err)
				}
				fates[i] = append(fates[i], p)
			}
		})
	}
	senders.Wait()
	cancel()
	for _, n := range nodes {
		n.wait()
	}
	db := healthy()
	settled(t, db, types, ids, pace.rest)
	judge(t, db, types, slices.Concat(fates...), actions)
	check(t, db, types)
}

// send sends the parcel until it is known or unknown what became of it.
func (p *parcelFate) send(db func() backend.Database, types *dserver.Definition[Station], limit time.Duration) error {
	for {
		s := types.At(db(), p.first)
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		var err error
		if p.call {
			var id string
			id, err = dserver.Call(ctx, s, Visit{Pass: p.Pass})
			if err == nil && id != p.ID {
				err = fmt.Errorf("answered as %q", id)
			}
			if len(p.Route) == 0 && (p.End == "refuse" && errors.Is(err, errDenied) || p.End == "break" && errors.Is(err, dserver.ErrFault)) {
				err = nil
			}
		} else {
			err = s.Cast(ctx, p.Pass)
		}
		cancel()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, backend.ErrCommitUnknown), errors.Is(err, backend.ErrClosed) && p.call && !wasNotSent(err):
			p.unknown = true
			return nil
		case !errors.Is(err, backend.ErrClosed):
			return err
		}
		<-time.After(time.Second) // the process starts again
	}
}

// settled lets one healthy consumer finish, and expects it to leave no message and no ready mark.
func settled(t *testing.T, db backend.Database, types dserver.Type, ids []string, rest time.Duration) {
	t.Helper()
	stop := run(t, dserver.Consumer{}, db, types)
	<-time.After(rest)
	eventually(t, "no server is ready", func() bool { return rows(t, db, "r")+rows(t, db, "w") == 0 })
	stop()
	for _, id := range ids {
		status, err := dserver.Ref{Type: types.Name(), ID: id}.At(db).Status(context.Background())
		if err != nil || status.Queued != 0 {
			t.Errorf("%s is stuck: %+v, %v", id, status, err)
		}
	}
}

// judge compares what happened with what the senders were told.
func judge(t *testing.T, db backend.Database, types *dserver.Definition[Station], fates []parcelFate, actions *tally) {
	t.Helper()
	seen := map[string]map[string]int{} // by station, by parcel
	dead := map[string]int{}            // by parcel
	for ref, err := range dserver.Servers(context.Background(), db, types.Name()) {
		must(t, err)
		s, err := types.At(db, ref.ID).State(context.Background())
		if err != nil && !errors.Is(err, dserver.ErrNotFound) {
			t.Fatal(err)
		}
		if s.Seen["init"] > 1 {
			t.Errorf("Init of %s ran %d times", ref.ID, s.Seen["init"])
		}
		delete(s.Seen, "init")
		seen[ref.ID] = s.Seen
		for d, err := range types.At(db, ref.ID).DeadLetters(context.Background()) {
			must(t, err)
			for _, p := range fates {
				if strings.Contains(string(d.Message.Body), "bID"+encodedText(p.ID)) {
					dead[p.ID]++
				}
			}
		}
	}
	for _, p := range fates {
		p.judge(t, seen, dead[p.ID])
	}
	for station, parcels := range seen {
		for id := range parcels {
			t.Errorf("%s has %s, which nobody sent there", station, id)
		}
	}
	for what, n := range maps.All(actions.n) {
		if n > 1 {
			t.Errorf("the action of %s ran %d times", what, n)
		}
	}
}

// encodedText is a short text in CBOR.
func encodedText(s string) string { return string(rune(0x60+len(s))) + s }

// judge takes what happened to one parcel out of seen.
func (p parcelFate) judge(t *testing.T, seen map[string]map[string]int, dead int) {
	t.Helper()
	route := p.route()
	want := map[string]int{}
	for i, station := range route {
		if i < len(route)-1 || p.End == "" {
			want[station]++
		}
	}
	got, total := map[string]int{}, 0
	for station, parcels := range seen {
		if n := parcels[p.ID]; n > 0 {
			got[station] = n
			total += n
		}
		delete(parcels, p.ID)
	}
	wantDead := 0
	if p.End != "" && (len(route) > 1 || !p.call || p.End == "break") {
		wantDead = 1
	}
	happened := maps.Equal(got, want) && (dead == wantDead || len(route) == 1 && p.call && dead <= wantDead)
	if isLost := p.unknown && total == 0 && dead == 0; !happened && !isLost {
		t.Errorf("%+v: came to %v with %d dead letters, want %v and %d", p, got, dead, want, wantDead)
	}
}
