package backendtest

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// More transactions than a store serves at once wait: none is refused.
func crowds() []check {
	return []check{{"MoreReadersThanTheStoreServesAtOnceAllSucceed", crowdSucceeds}}
}

func crowdSucceeds(x *trial) {
	const crowd = 1500
	x.set(x.db, "a", "1")
	c := &gathering{released: make(chan struct{})}
	errs := make(chan error, crowd)
	for i := range crowd {
		go func() {
			if i%2 == 0 {
				errs <- x.db.Read(x.Context(), c.read)
				return
			}
			errs <- x.db.Transact(x.Context(), func(tx backend.Tx) error {
				tx.Add(key("n"), 1)
				return c.readBefore(tx)
			})
		}()
	}
	c.release(x.Context(), crowd)
	for range crowd {
		if err := <-errs; err != nil {
			x.Fatal(err)
		}
	}
	x.expectCount(x.other, key("n"), crowd/2)
}

// gathering keeps the snapshots of all who have begun until no more can begin.
type gathering struct {
	begun    atomic.Int64
	released chan struct{}
}

func (c *gathering) read(tx backend.ReadTx) error { return c.readBefore(tx) }

func (c *gathering) readBefore(r backend.Reader) error {
	_, err := r.Get(key("a")).Get()
	c.begun.Add(1)
	<-c.released
	return err
}

// release lets them go when all of a crowd have begun, when the store lets no more begin for a while, or before the
// first grow old.
func (c *gathering) release(ctx context.Context, crowd int64) {
	defer close(c.released)
	const tick, ticks, calm = 20 * time.Millisecond, 100, 5
	last, still := int64(0), 0
	for range ticks {
		wait(ctx, tick)
		now := c.begun.Load()
		if still++; now != last {
			last, still = now, 0
		}
		if now == crowd || still == calm {
			return
		}
	}
}
