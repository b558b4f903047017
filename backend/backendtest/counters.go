package backendtest

import (
	"context"
	"fmt"
	"math"

	"github.com/dserver-go/dserver/backend"
)

func counters() []check {
	return []check{
		{"ACounterBeginsAtZero", counterBeginsAtZero},
		{"ATransactionReadsItsOwnAdds", readsOwnAdds},
		{"AddsNeverConflict", addsNeverConflict},
		{"ASetCounterCanBeAddedTo", setCounterCanBeAddedTo},
	}
}

func (x *trial) counter(db backend.Database, k backend.Key) (n int64) {
	x.Helper()
	x.read(db, func(r *reader) { n = r.counter(k) })
	return n
}

func (x *trial) expectCount(db backend.Database, k backend.Key, want int64) {
	x.Helper()
	x.expect("the counter", fmt.Sprint(x.counter(db, k)), fmt.Sprint(want))
}

func counterBeginsAtZero(x *trial) {
	n := key("n")
	x.expectCount(x.db, n, 0)
	for _, step := range []struct{ delta, want int64 }{
		{5, 5}, {-7, -2}, {0, -2}, {math.MaxInt64, math.MaxInt64 - 2}, {-(math.MaxInt64 - 2), 0}, {256, 256},
	} {
		x.transact(x.db, func(s *script) { s.tx.Add(n, step.delta) })
		x.expectCount(x.other, n, step.want)
	}
}

func readsOwnAdds(x *trial) {
	n, m := key("n"), key("m")
	x.transact(x.db, func(s *script) { s.tx.Add(n, 10) })
	x.transact(x.db, func(s *script) {
		s.tx.Add(n, 1)
		s.tx.Add(n, 1)
		s.tx.Add(m, 3)
		x.expect("an old counter", fmt.Sprint(s.counter(n)), "12")
		x.expect("a new counter", fmt.Sprint(s.counter(m)), "3")
		found, err := s.GetRange(wholeStore(), backend.RangeOptions{}).Get()
		s.keep(err)
		x.expect("counters in the range", fmt.Sprint(len(found)), "2")
		s.tx.Clear(n.Only())
		s.tx.Add(n, 7)
		x.expect("a cleared counter", fmt.Sprint(s.counter(n)), "7")
		s.tx.Add(n, 1)
	})
	x.expectCount(x.other, n, 8)
	x.expectCount(x.other, m, 3)
}

func addsNeverConflict(x *trial) {
	const adds = 50
	runs := make([]int, eachWorkers)
	x.each(func(ctx context.Context, db backend.Database, worker int) error {
		for range adds {
			err := transact(ctx, db, func(s *script) {
				runs[worker]++
				s.get("another key")
				s.tx.Add(key("n"), int64(worker+1))
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	for worker, n := range runs {
		if n != adds {
			x.Errorf("worker %d ran %d times for %d adds", worker, n, adds)
		}
	}
	x.expectCount(x.db, key("n"), adds*eachWorkers*(eachWorkers+1)/2)
}

func setCounterCanBeAddedTo(x *trial) {
	n := key("n")
	x.transact(x.db, func(s *script) {
		s.tx.Add(n, 100)
		s.tx.Set(n, backend.CounterValue(-1))
		s.tx.Add(n, 1)
		s.tx.Add(n, 41)
	})
	x.expectCount(x.other, n, 41)
	x.transact(x.db, func(s *script) { s.tx.Set(n, backend.CounterValue(1<<40)) })
	x.transact(x.other, func(s *script) { s.tx.Add(n, 1) })
	x.expectCount(x.db, n, 1<<40+1)
}
