package dserver_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/tenant"
)

// A power cut ends all processes and takes the asynchronous commits that came last. Whatever somebody was told of is there
// afterwards, once; what nobody was told of is there once or not at all.
func TestPowerCutTakesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	rounds := 30
	if os.Getenv("LONG") != "" {
		rounds = 3000
	}
	lost := 0
	for round := range rounds {
		if !t.Run(fmt.Sprint(round), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { lost += cutPower(t, random) })
		}) {
			return
		}
	}
	if lost == 0 {
		t.Error("no power cut took a commit: this test shows nothing")
	}
}

// powerFate is what the senders of a message know.
type powerFate struct {
	server string
	told   bool // one of them was told that it is there
}

// cutPower runs senders and consumers until a power cut, and looks at what is left after it. It returns how many commits
// that took.
func cutPower(t *testing.T, random *rand.Rand) (lost int) {
	types := stations(&tally{n: map[string]int{}}, 3)
	store := backendtest.NewStore()
	lags := newLag(random, time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	var processes []backend.Database
	for range 3 {
		processes = append(processes, store.Open())
	}
	stop := run(t, dserver.Consumer{}, lags.on(processes[0]), types)

	var mu sync.Mutex
	fates, rest := map[string]*powerFate{}, random.IntN(20)
	var left *backendtest.Store
	note := func(id, server string, told bool) {
		mu.Lock()
		defer mu.Unlock()
		if left != nil {
			return
		}
		if fates[id] == nil {
			fates[id] = &powerFate{server: server}
		}
		fates[id].told = fates[id].told || told
		if told {
			rest--
		}
		if rest >= 0 || !told {
			return
		}
		// Whoever was told just now is the last, when there is something to lose, or there was nothing for long.
		if cut, n := store.CutPower(); n > 0 || rest < -50 {
			left, lost = cut, n
			cancel()
		}
	}
	var senders sync.WaitGroup
	isKeyed := random.IntN(2) == 0
	for i := range 2 + random.IntN(3) {
		choose := rand.New(rand.NewPCG(random.Uint64(), 0))
		db := lags.on(processes[choose.IntN(len(processes))])
		senders.Go(func() {
			for j := 0; ctx.Err() == nil; j++ {
				p := Pass{ID: fmt.Sprintf("%d-%d", i, j)}
				var options []dserver.Option
				switch kind := choose.IntN(4); {
				case kind == 0 || isKeyed: // others send it as well
					p.ID = fmt.Sprint("key-", j)
					options = append(options, dserver.Once(p.ID))
				case kind == 1:
					options = append(options, dserver.After(time.Duration(choose.IntN(5))*time.Millisecond))
				}
				server := "s" + p.ID[len(p.ID)-1:]
				note(p.ID, server, false)
				s := types.At(db, server)
				var err error
				if choose.IntN(2) == 0 {
					err = s.Cast(ctx, Visit{Pass: p}, options...)
				} else {
					_, err = dserver.Call(ctx, s, Visit{Pass: p}, options...)
				}
				if err == nil {
					note(p.ID, server, true)
				}
			}
		})
	}
	paused := map[string]bool{} // by an operator who was told so, before the power cut
	senders.Go(func() {
		db := lags.on(processes[len(processes)-1])
		for i := 0; ctx.Err() == nil; i++ {
			id := fmt.Sprint("paused-", i)
			if types.At(db, id).Pause(ctx) != nil {
				return
			}
			mu.Lock()
			paused[id] = left == nil
			mu.Unlock()
		}
	})
	<-ctx.Done()
	for _, db := range processes {
		must(t, db.Close())
	}
	senders.Wait()
	stop()

	db := left.Open()
	defer run(t, dserver.Consumer{}, db, types)()
	<-time.After(time.Hour)
	check(t, db, types)
	for id, f := range fates {
		state, err := types.At(db, f.server).State(context.Background())
		if n := state.Seen[id]; n > 1 || n == 0 && f.told {
			t.Errorf("%s of %s is there %d times, %v; somebody was told of it: %v", id, f.server, n, err, f.told)
		}
	}
	for id, told := range paused {
		status, err := types.At(db, id).Status(context.Background())
		if must(t, err); told && !status.Paused {
			t.Errorf("%s is not paused, which somebody was told", id)
		}
	}
	return lost
}

// A claim says what is handled in case that this ends its process. It may end the machine.
func TestClaimsAreSynced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := backendtest.NewStore()
		types := stations(&tally{n: map[string]int{}}, 3)
		must(t, types.At(store.Open(), "s").Cast(t.Context(), Pass{ID: "1"}))
		claims := &claimsDB{Database: store.Open()}
		defer run(t, dserver.Consumer{}, claims, types)()
		<-time.After(time.Second)
		if claims.synced == 0 || claims.unsynced > 0 {
			t.Errorf("%d claims were synced, and %d were not", claims.synced, claims.unsynced)
		}
	})
}

// claimsDB counts the commits that claim the server s, by whether they are synced.
type claimsDB struct {
	backend.Database
	synced, unsynced int
}

func (d *claimsDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	var last *claimingTx
	err := d.Database.Transact(ctx, func(tx backend.Tx) error {
		last = &claimingTx{Tx: tx}
		return fn(last)
	})
	switch {
	case err != nil || !last.claims:
	case last.isAsync:
		d.unsynced++
	default:
		d.synced++
	}
	return err
}

type claimingTx struct {
	backend.Tx
	isAsync, claims bool
}

func (t *claimingTx) CommitAsync() { t.isAsync = true }

func (t *claimingTx) Set(key backend.Key, value []byte) {
	t.claims = t.claims || tenant.ReadyClaims(tenant.Ref{Type: "station", ID: "s"}).Tree().Contains(key)
	t.Tx.Set(key, value)
}
