package operate

import (
	"context"
	"fmt"
	"iter"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Act is what an operator did, and its place in the order of commits.
type Act struct {
	Stamp backend.Versionstamp
	tenant.Act
}

// maxActs is how many acts are read from one snapshot, and maxActBytes how much of them.
const (
	maxActs     = 100
	maxActBytes = 1 << 20
)

// Acts yields what operators did, the latest first. One that cannot be read is left out: Check finds it.
func Acts(ctx context.Context, db backend.Database) iter.Seq2[Act, error] {
	return func(yield func(Act, error) bool) {
		for rest := tenant.Acts().Below(); ; {
			var pairs []backend.KeyValue
			err := db.Read(ctx, func(tx backend.ReadTx) (err error) {
				o := backend.RangeOptions{Limit: maxActs, Bytes: maxActBytes, Reverse: true, Snapshot: true}
				pairs, err = tx.GetRange(rest, o).Get()
				return err
			})
			if err != nil {
				yield(Act{}, fmt.Errorf("dserver: read what operators did: %w", err))
				return
			}
			for _, pair := range pairs {
				var a Act
				var isAct bool
				if a.Stamp, isAct = pair.Key.CutStamp(tenant.Acts()); !isAct || tenant.DecodeRecord(pair.Value, &a.Act) != nil {
					continue
				}
				if !yield(a, nil) {
					return
				}
			}
			if len(pairs) == 0 {
				return
			}
			rest.End = pairs[len(pairs)-1].Key
		}
	}
}
