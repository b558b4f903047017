package tenant

import (
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/chunk"
)

// SetLarge writes a value of any size that chunk allows: at key, and the further rows below it.
func SetLarge(tx backend.Tx, key backend.Key, value []byte) error {
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

// LargeRead is a read of what SetLarge wrote.
type LargeRead struct {
	Key   backend.Key
	Pairs backend.Future[[]backend.KeyValue]
}

// ReadLarge starts a read; a change before the commit is a conflict.
func ReadLarge(tx backend.Reader, key backend.Key) LargeRead {
	return LargeRead{key, tx.GetRange(key.Tree(), backend.RangeOptions{})}
}

// Get returns the value, nil when it is absent.
func (r LargeRead) Get() ([]byte, error) {
	pairs, err := r.Pairs.Get()
	if err != nil || len(pairs) == 0 {
		return nil, err
	}
	rows := make([][]byte, len(pairs))
	for i, pair := range pairs {
		rows[i] = pair.Value
	}
	value, err := chunk.Join(rows)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", backend.ErrCorrupt, r.Key, err)
	}
	if value == nil {
		value = []byte{}
	}
	return value, nil
}
