package backendtest

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/dserver-go/dserver/backend"
)

// The three anomalies that weaker isolation lets through, under real concurrency.
func serializability() []check {
	return []check{
		{"NoUpdateIsLost", noUpdateIsLost},
		{"NoWriteSkew", noWriteSkew},
		{"NoPhantom", noPhantom},
		{"ATransferKeepsTheSum", transferKeepsSum},
	}
}

// each runs work at the same time on both handles and on one more, several times on each, and waits for all.
func (x *trial) each(work func(ctx context.Context, db backend.Database, worker int) error) {
	x.Helper()
	const perHandle = 2
	handles := []backend.Database{x.db, x.other, x.open()}
	errs := make([]error, perHandle*len(handles))
	var wg sync.WaitGroup
	for worker := range errs {
		wg.Go(func() { errs[worker] = work(x.Context(), handles[worker%len(handles)], worker) })
	}
	wg.Wait()
	for worker, err := range errs {
		if err != nil {
			x.Errorf("worker %d: %v", worker, err)
		}
	}
}

const eachWorkers = 6 // of trial.each

func noUpdateIsLost(x *trial) {
	const updates = 30
	x.each(func(ctx context.Context, db backend.Database, _ int) error {
		for range updates {
			if err := transact(ctx, db, func(s *script) { s.set("a", strings.TrimPrefix(s.get("a"), absent)+"x") }); err != nil {
				return err
			}
		}
		return nil
	})
	x.expect("updates", fmt.Sprint(len(x.get(x.db, "a"))), fmt.Sprint(eachWorkers*updates))
}

// Of two doctors on call, each may leave if the other stays. Under snapshot isolation both leave.
func noWriteSkew(x *trial) {
	const rounds = 40
	x.each(func(ctx context.Context, db backend.Database, worker int) error {
		me, other := "doctor 0", "doctor 1"
		if worker%2 == 1 {
			me, other = other, me
		}
		for range rounds {
			if err := transact(ctx, db, func(s *script) { s.set(me, "on") }); err != nil {
				return err
			}
			err := transact(ctx, db, func(s *script) {
				if mine, theirs := s.get(me), s.get(other); mine == "off" && theirs == "off" {
					s.keep(fmt.Errorf("nobody is on call"))
				} else if theirs == "on" {
					s.set(me, "off")
				}
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if x.get(x.db, "doctor 0") == "off" && x.get(x.db, "doctor 1") == "off" {
		x.Error("nobody is on call")
	}
}

// A room has four seats; who sees fewer taken takes one, under a key that nobody has read.
func noPhantom(x *trial) {
	const seats, rooms = 4, 15
	x.each(func(ctx context.Context, db backend.Database, worker int) error {
		for room := range rooms {
			for try := range 2 {
				err := transact(ctx, db, func(s *script) {
					taken, err := s.GetRange(backend.NewKey("room", room).Below(), backend.RangeOptions{}).Get()
					s.keep(err)
					if len(taken) < seats {
						s.tx.Set(backend.NewKey("room", room, worker, try), nil)
					}
				})
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	for room := range rooms {
		x.read(x.db, func(r *reader) {
			taken, err := r.GetRange(backend.NewKey("room", room).Below(), backend.RangeOptions{}).Get()
			r.keep(err)
			x.expect("seats taken", fmt.Sprint(len(taken)), fmt.Sprint(seats))
		})
	}
}

// Sums over a range never see half of a transfer.
func transferKeepsSum(x *trial) {
	const accounts, each, transfers = 8, 100, 40
	x.transact(x.db, func(s *script) {
		for account := range accounts {
			s.tx.Set(backend.NewKey("account", account), backend.CounterValue(each))
		}
	})
	x.each(func(ctx context.Context, db backend.Database, worker int) error {
		for i := range transfers {
			from, to := backend.NewKey("account", (worker+i)%accounts), backend.NewKey("account", (worker*3+i*5)%accounts)
			if err := transact(ctx, db, func(s *script) { s.transfer(from, to, int64(i%7)) }); err != nil {
				return err
			}
			if err := assertSum(ctx, db, key("account").Below(), accounts*each); err != nil {
				return err
			}
		}
		return nil
	})
}

// transfer moves by reading and setting, not by adding.
func (s *script) transfer(from, to backend.Key, amount int64) {
	if from.Compare(to) == 0 {
		return
	}
	was, becomes := s.counter(from), s.counter(to)
	s.tx.Set(from, backend.CounterValue(was-amount))
	s.tx.Set(to, backend.CounterValue(becomes+amount))
}

func (r *reader) counter(k backend.Key) int64 {
	value, err := r.Get(k).Get()
	r.keep(err)
	n, err := backend.Counter(value)
	r.keep(err)
	return n
}

func assertSum(ctx context.Context, db backend.Database, where backend.Range, want int64) error {
	return db.Read(ctx, func(tx backend.ReadTx) error {
		found, err := tx.GetRange(where, backend.RangeOptions{}).Get()
		if err != nil {
			return err
		}
		var sum int64
		for _, pair := range found {
			n, err := backend.Counter(pair.Value)
			if err != nil {
				return err
			}
			sum += n
		}
		if sum != want {
			return fmt.Errorf("the sum is %d, not %d", sum, want)
		}
		return nil
	})
}
