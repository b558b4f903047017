package queue

import (
	"fmt"

	"github.com/dserver-go/dserver/backend"
)

// checkItems is how many items Check holds at a time.
const checkItems = 256

// Check reads all that is below the queue's prefix and reports, as backend.ErrCorrupt, what no sequence of pushes and
// removals leaves there: an item that is not whole, a length that is not the number of items, a key that is not the
// queue's. It must read one snapshot. visit is called with each item in order, and its error ends the check.
func (q Queue) Check(tx backend.Reader, visit func(Item) error) error {
	var found int64
	for after := (Item{}); ; {
		items, err := q.Read(tx, after, checkItems)
		if err != nil {
			return err
		}
		if len(items) == 0 {
			break
		}
		for _, item := range items {
			if err := visit(item); err != nil {
				return err
			}
		}
		found, after = found+int64(len(items)), items[len(items)-1]
	}
	if n, err := q.Len(tx).Get(); err != nil || n != found {
		return orCorrupt(err, "queue: %d items, and counters that say %d", found, n)
	}
	return q.checkKeys(tx)
}

// checkKeys looks for keys before, between and after those of the queue.
func (q Queue) checkKeys(tx backend.Reader) error {
	counters := backend.Range{Begin: q.prefix.Int(pushes), End: q.prefix.Tree().End}
	for _, r := range []backend.Range{{Begin: q.prefix, End: q.Rows().Begin}, counters} {
		pairs, err := tx.GetRange(r, backend.RangeOptions{Limit: lanesAndCounters, Snapshot: true}).Get()
		if err != nil {
			return err
		}
		for _, pair := range pairs {
			if pair.Key.Compare(q.prefix.Int(pushes)) != 0 && pair.Key.Compare(q.prefix.Int(pops)) != 0 {
				return orCorrupt(nil, "queue: key %v is not the queue's", pair.Key)
			}
		}
	}
	return nil
}

// lanesAndCounters is how many keys directly below the prefix may begin with.
const lanesAndCounters = 4

func orCorrupt(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: "+format, append([]any{backend.ErrCorrupt}, args...)...)
}
