//go:build fdb

package fdb

import (
	"testing"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
)

func BenchmarkBackend(b *testing.B) { backendtest.Bench(b, open) }

// BenchmarkOneAfterTheOther compares a read and a write a transaction with the same on the binding alone.
func BenchmarkOneAfterTheOther(b *testing.B) {
	db := openFresh(b)
	b.Run("backend", func(b *testing.B) {
		for b.Loop() {
			err := db.Transact(b.Context(), func(tx backend.Tx) error {
				value, err := tx.Get(backend.NewKey("a")).Get()
				n, _ := backend.Counter(value)
				tx.Set(backend.NewKey("a"), backend.CounterValue(n+1))
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("binding", func(b *testing.B) {
		key := fdb.Key(db.space.value.Load().data.Str("b"))
		for b.Loop() {
			_, err := db.cluster.conn.Transact(func(tr fdb.Transaction) (any, error) {
				value, err := tr.Get(key).Get()
				n, _ := backend.Counter(value)
				tr.Set(key, backend.CounterValue(n+1))
				return nil, err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
