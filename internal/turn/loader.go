package turn

import (
	"errors"
	"fmt"
	"sync"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/statediff"
)

// Loader reads the entries of tracked collections (statediff.Map, statediff.List) when a handler asks for them, in the
// transaction of its turn. Its reads are snapshots, as the conflict on the state's version covers them. It is closed
// when the turn does not wait for the handler any more.
type Loader struct {
	root backend.Key

	mu  sync.Mutex
	tx  backend.Reader // nil when it is closed
	err error          // the first; what a handler concluded after it means nothing
}

var errLoaderClosed = errors.New("dserver: the turn of this state is over")

// Get is part of statediff.Loader.
func (l *Loader) Get(key string) ([]byte, error) {
	rows, err := l.Scan(key, key+"\x00", 1, false)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0].Value, nil
}

// Scan is part of statediff.Loader.
func (l *Loader) Scan(begin, end string, limit int, reverse bool) ([]statediff.Row, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tx == nil {
		return nil, errLoaderClosed
	}
	r := backend.Range{Begin: l.root.Join(backend.Key(begin)), End: l.root.Join(backend.Key(end))}
	pairs, err := l.tx.GetRange(r, backend.RangeOptions{Limit: limit, Reverse: reverse, Snapshot: true}).Get()
	if err != nil {
		l.err = fmt.Errorf("load entries: %w", err)
		return nil, l.err
	}
	rows := make([]statediff.Row, len(pairs))
	for i, pair := range pairs {
		rows[i] = statediff.Row{Key: string(pair.Key[len(l.root):]), Value: pair.Value}
	}
	return rows, nil
}

func (l *Loader) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close ends it: from then on the handler that asks is refused.
func (l *Loader) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tx = nil
}
