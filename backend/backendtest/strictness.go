package backendtest

import (
	"context"
	"fmt"
	"sync"

	"github.com/dserver-go/dserver/backend"
)

// Strictness: what was acknowledged to anyone is seen by all that begins later, anywhere.
func strictness() []check {
	return []check{
		{"AReadSeesWhatAnotherHandleWasTold", readSeesAcknowledged},
		{"ATransactionSeesWhatAnotherHandleWasTold", transactionSeesAcknowledged},
		{"UnderLoadAReadSeesWhatWasAcknowledged", readSeesAcknowledgedUnderLoad},
	}
}

func readSeesAcknowledged(x *trial) {
	handles := []backend.Database{x.db, x.other, x.open()}
	for i := range 60 {
		want := fmt.Sprint(i)
		x.set(handles[i%3], "a", want)
		x.expect("the next handle", x.get(handles[(i+1)%3], "a"), want)
		x.expect("the one after", x.get(handles[(i+2)%3], "a"), want)
	}
}

func transactionSeesAcknowledged(x *trial) {
	handles := []backend.Database{x.db, x.other}
	x.set(x.db, "a", "")
	for i := range 60 {
		runs := 0
		x.transact(handles[i%2], func(s *script) {
			runs++
			s.set("a", s.get("a")+"x")
		})
		if runs != 1 {
			x.Errorf("ran %d times although nothing else ran: its first snapshot was an old one", runs)
		}
	}
	x.expect("updates", fmt.Sprint(len(x.get(x.other, "a"))), "60")
}

// Each worker writes the newest number under a shared lock, so that the numbers are acknowledged in order; readers
// beside it may be a number ahead but never behind what was acknowledged before they began.
func readSeesAcknowledgedUnderLoad(x *trial) {
	var mu sync.Mutex
	acknowledged := int64(0)
	newest := func() int64 {
		mu.Lock()
		defer mu.Unlock()
		return acknowledged
	}
	increment := func(ctx context.Context, db backend.Database) error {
		mu.Lock()
		defer mu.Unlock()
		err := transact(ctx, db, func(s *script) { s.tx.Set(key("n"), backend.CounterValue(acknowledged+1)) })
		if err == nil {
			acknowledged++
		}
		return err
	}
	x.each(func(ctx context.Context, db backend.Database, worker int) error {
		for i := range 40 {
			if worker%2 == 0 {
				if err := increment(ctx, db); err != nil {
					return err
				}
			}
			floor, seen := newest(), int64(0)
			err := db.Read(ctx, func(tx backend.ReadTx) error {
				r := &reader{Reader: tx}
				seen = r.counter(key("n"))
				return r.err
			})
			if err != nil || seen < floor {
				return fmt.Errorf("read %d of %d, round %d: %w", seen, floor, i, err)
			}
		}
		return nil
	})
}
