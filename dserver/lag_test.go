package dserver_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// lag makes a store slow at random moments: before a transaction, after each of its reads, before its commit, and
// between its commit and the moment at which its caller knows. In a bubble that costs no time and shuffles what runs at
// once.
type lag struct {
	mu     sync.Mutex
	random *rand.Rand
	most   time.Duration
}

func newLag(random *rand.Rand, most time.Duration) *lag {
	return &lag{random: rand.New(rand.NewPCG(random.Uint64(), 0)), most: most}
}

// pause waits for a random while, often for none.
func (l *lag) pause() {
	l.mu.Lock()
	d := time.Duration(l.random.Int64N(int64(l.most)))
	none := l.random.IntN(2) == 0
	l.mu.Unlock()
	if !none {
		<-time.After(d)
	}
}

// on is a handle of the slow store.
func (l *lag) on(db backend.Database) backend.Database { return laggingDB{db, l} }

type laggingDB struct {
	backend.Database
	lag *lag
}

func (d laggingDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	d.lag.pause()
	err := d.Database.Transact(ctx, func(tx backend.Tx) error {
		err := fn(backend.Wrapped(&laggingTx{tx, d.lag}, tx))
		d.lag.pause()
		return err
	})
	d.lag.pause()
	return err
}

func (d laggingDB) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	d.lag.pause()
	err := d.Database.Read(ctx, fn)
	d.lag.pause()
	return err
}

type laggingTx struct {
	backend.Tx
	lag *lag
}

func (t *laggingTx) Get(key backend.Key) backend.Future[[]byte] { return later(t.lag, t.Tx.Get(key)) }

func (t *laggingTx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	return later(t.lag, t.Tx.GetRange(r, o))
}

// later is a read whose answer takes a while to come back.
func later[T any](l *lag, read backend.Future[T]) backend.Future[T] {
	return backend.Later(func() (T, error) {
		value, err := read.Get()
		l.pause()
		return value, err
	})
}
