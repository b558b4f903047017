package backendtest

import (
	"context"
	"testing"

	"github.com/dserver-go/dserver/backend"
)

func increment(tx backend.Tx, key backend.Key) error {
	value, err := tx.Get(key).Get()
	if err != nil {
		return err
	}
	n, err := backend.Counter(value)
	if err != nil {
		return err
	}
	tx.Set(key, backend.CounterValue(n+1))
	return nil
}

func BenchmarkModelCounter(b *testing.B) {
	db, key := NewModel(), backend.NewKey("counter")
	for b.Loop() {
		if err := db.Transact(context.Background(), func(tx backend.Tx) error { return increment(tx, key) }); err != nil {
			b.Fatal(err)
		}
	}
}
