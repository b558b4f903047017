package backendtest

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/dserver-go/dserver/backend"
)

func TestModel(t *testing.T) { Run(t, Model) }

// The model uses nothing but package time and channels, so in a bubble growing old costs no time.
func TestModelGrowsOldInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { tooOldFails(newTrial(t, Model)) })
}

func BenchmarkModelCounter(b *testing.B) {
	db, key := NewModel(), backend.NewKey("counter")
	for b.Loop() {
		err := transact(context.Background(), db, func(s *script) {
			s.tx.Set(key, backend.CounterValue(s.counter(key)+1))
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
