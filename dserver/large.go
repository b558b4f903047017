package dserver

import (
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/chunk"
)

// setLarge writes a value of any size that chunk allows: at key, and the further rows below it.
func setLarge(tx backend.Tx, key backend.Key, value []byte) error {
	rows, err := chunk.Split(value)
	if err != nil {
		return fmt.Errorf("%w: %w", backend.ErrTooLarge, err)
	}
	tx.Clear(key.Tree())
	tx.Set(key, rows[0])
	for i, row := range rows[1:] {
		tx.Set(key.Int(int64(i+1)), row)
	}
	return nil
}

// largeRead is a read of what setLarge wrote.
type largeRead struct {
	key   backend.Key
	pairs backend.Future[[]backend.KeyValue]
}

// readLarge starts a read; a change before the commit is a conflict.
func readLarge(tx backend.Reader, key backend.Key) largeRead {
	return largeRead{key, tx.GetRange(key.Tree(), backend.RangeOptions{})}
}

// get returns the value, nil when it is absent.
func (r largeRead) get() ([]byte, error) {
	pairs, err := r.pairs.Get()
	if err != nil || len(pairs) == 0 {
		return nil, err
	}
	rows := make([][]byte, len(pairs))
	for i, pair := range pairs {
		rows[i] = pair.Value
	}
	value, err := chunk.Join(rows)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", backend.ErrCorrupt, r.key, err)
	}
	if value == nil {
		value = []byte{}
	}
	return value, nil
}
