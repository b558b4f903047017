package backendtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/dserver-go/dserver/backend"
)

// A concurrent history is strictly serializable if its transactions, replayed one after the other in the order of
// their versionstamps, read just what they read then, and if each has a later stamp than all that were acknowledged
// before it began. A snapshot tells its place by a key that every transaction stamps.
func histories() []check {
	return []check{{"ReplaysInTheOrderOfItsVersionstamps", replays}}
}

func replays(x *trial) {
	random := random(x)
	h := &history{space: space{key("history")}, last: key("last")}
	seeds := make([]uint64, eachWorkers)
	for i := range seeds {
		seeds[i] = random.Uint64()
	}
	x.each(func(ctx context.Context, db backend.Database, worker int) error {
		choose := rand.New(rand.NewPCG(seeds[worker], 0)).IntN
		for range 60 {
			if err := h.transact(ctx, db, choose); err != nil {
				return err
			}
			if choose(3) == 0 {
				if err := h.read(ctx, db); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err := h.replay(); err != nil {
		x.Error(err)
	}
}

// event is a transaction or a snapshot that was acknowledged.
type event struct {
	ops     ops // nil in a snapshot
	results []string
	version backend.Versionstamp // of the commit; in a snapshot, of the last commit that it saw
	floor   backend.Versionstamp // the latest that had been acknowledged when it began
}

// history collects what happens.
type history struct {
	space space
	last  backend.Key // stamped by every transaction, read by none

	mu           sync.Mutex // guards what is below
	acknowledged backend.Versionstamp
	events       []event
}

func (h *history) floor() backend.Versionstamp {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acknowledged
}

func (h *history) add(e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
	if h.acknowledged.Compare(e.version) < 0 {
		h.acknowledged = e.version
	}
}

func (h *history) transact(ctx context.Context, db backend.Database, choose chooser) error {
	e := event{ops: h.space.transaction(choose, 8), floor: h.floor()}
	var err error
	e.version, err = versionOf(ctx, db, func(tx backend.Tx) (err error) {
		e.results, err = e.ops.on(tx)
		tx.Stamp(h.last)
		return err
	})
	if err == nil {
		h.add(e)
	}
	return err
}

// read is a snapshot of everything, with its place.
func (h *history) read(ctx context.Context, db backend.Database) error {
	e := event{floor: h.floor()}
	err := db.Read(ctx, func(tx backend.ReadTx) error {
		last := tx.Get(h.last)
		found, err := tx.GetRange(h.space.root.Tree(), backend.RangeOptions{}).Get()
		if err != nil {
			return err
		}
		value, err := last.Get()
		if err != nil {
			return err
		}
		e.results = []string{shownPairs(found)}
		e.version, err = backend.StampOf(value)
		return err
	})
	if err == nil {
		h.add(e)
	}
	return err
}

// replay plays the history again, one event at a time.
func (h *history) replay() error {
	slices.SortStableFunc(h.events, func(a, b event) int {
		if order := a.version.Compare(b.version); order != 0 {
			return order
		}
		return len(b.ops) - len(a.ops) // a snapshot comes after the commit that it saw
	})
	store := make(oracle)
	for i, e := range h.events {
		if e.version.Compare(e.floor) < 0 || e.ops != nil && e.version == e.floor {
			return fmt.Errorf("event %d has %v, though it began when %v had been acknowledged", i, e.version, e.floor)
		}
		if e.ops == nil {
			if want := store.list(h.space.root.Tree(), backend.RangeOptions{}); e.results[0] != want {
				return fmt.Errorf("event %d, a snapshot after %v:\nsaw  %s\nwant %s", i, e.version, e.results[0], want)
			}
			continue
		}
		for j, want := range store.apply(e.ops, e.version) {
			if e.results[j] != want {
				return fmt.Errorf("event %d, %v in %v:\nread %s\nwant %s", i, e.ops[j], e.ops, e.results[j], want)
			}
		}
	}
	return nil
}
