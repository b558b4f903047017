package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/internal/tenant"
)

// countingReader counts reads and what they return.
type countingReader struct {
	backend.ReadTx
	reads, pairs int
}

func (r *countingReader) GetRange(rng backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	pairs, err := r.ReadTx.GetRange(rng, o).Get()
	r.reads++
	r.pairs += len(pairs)
	return backend.Ready(pairs, err)
}

// childrenOf stores so many keys of each child, and lists the children.
func childrenOf(t rapid.TB, keys map[string]int, stop int) (names []string, r *countingReader) {
	db, prefix := backendtest.NewModel(), backend.NewKey("below")
	err := db.Transact(context.Background(), func(tx backend.Tx) error {
		tx.Set(backend.NewKey("a"), nil)
		tx.Set(backend.NewKey("z"), nil)
		for name, n := range keys {
			for i := range n {
				tx.Set(prefix.Str(name).Int(int64(i)), []byte("value"))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("enough")
	err = db.Read(context.Background(), func(tx backend.ReadTx) error {
		r, names = &countingReader{ReadTx: tx}, nil
		return tenant.Children(r, prefix, func(name string) error {
			if names = append(names, name); len(names) == stop {
				return full
			}
			return nil
		})
	})
	if err != nil && !errors.Is(err, full) {
		t.Fatal(err)
	}
	return names, r
}

func TestChildrenAreFoundOnceInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.MapOfN(rapid.StringMatching(`[a-c\x00]{0,4}`), rapid.IntRange(1, 90), 0, 40).Draw(t, "keys")
		stop := rapid.IntRange(0, 20).Draw(t, "stop")
		var want []string
		for name := range keys {
			want = append(want, name)
		}
		slices.Sort(want)
		if stop > 0 {
			want = want[:min(stop, len(want))]
		}
		if got, _ := childrenOf(t, keys, stop); !slices.Equal(got, want) {
			t.Errorf("found %q, want %q", got, want)
		}
	})
}

func TestChildrenCostFewReads(t *testing.T) {
	for _, c := range []struct{ children, each, reads, pairs int }{
		{1000, 5, 100, 5500},   // small servers: several at once
		{20, 1000, 50, 20 * 8}, // large ones are jumped over
	} {
		keys := map[string]int{}
		for i := range c.children {
			keys[fmt.Sprintf("%04d", i)] = c.each
		}
		names, r := childrenOf(t, keys, 0)
		if len(names) != c.children || r.reads > c.reads || r.pairs > c.pairs {
			t.Errorf("%d children of %d keys: found %d with %d reads of %d pairs; at most %d reads of %d pairs are due",
				c.children, c.each, len(names), r.reads, r.pairs, c.reads, c.pairs)
		}
	}
}
