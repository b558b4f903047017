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

// Headless finds rows of an item of which the first is gone: its key, and what is left, nil when there are none. What cannot be
// read otherwise is left to Check.
func (q Queue) Headless(tx backend.Reader) (key backend.Key, rows [][]byte, err error) {
	for lane := range lanes {
		prefix := q.prefix.Int(int64(lane))
		var first backend.Key // of the item that was met last
		for rest := q.Lane(lane); ; {
			pairs, err := tx.GetRange(rest, backend.RangeOptions{Limit: checkItems, Bytes: readBytes, Snapshot: true}).Get()
			if err != nil {
				return nil, nil, err
			}
			for _, pair := range pairs {
				owner, isBelow := ownerOf(prefix, pair.Key)
				switch {
				case !isBelow && key == nil:
					first = pair.Key
				case isBelow && first.Compare(owner) != 0 && (key == nil || key.Compare(owner) == 0):
					key, rows = owner, append(rows, pair.Value)
				case key != nil:
					return key, rows, nil
				}
			}
			if len(pairs) == 0 {
				break
			}
			rest.Begin = pairs[len(pairs)-1].Key.Only().End
		}
		if key != nil {
			return key, rows, nil
		}
	}
	return nil, nil, nil
}

// ownerOf is the first row of the item to which a row below it belongs.
func ownerOf(prefix, key backend.Key) (owner backend.Key, isBelow bool) {
	n := len(prefix.Stamp(backend.Versionstamp{}))
	if len(key) <= n {
		return nil, false
	}
	if _, isStamp := key[:n].CutStamp(prefix); !isStamp {
		return nil, false
	}
	return key[:n:n], true
}

// Recount is how many more items there are than the counters say, which is below zero when there are fewer. It must read one
// snapshot. An item that cannot be read is backend.ErrCorrupt.
func (q Queue) Recount(tx backend.Reader) (more int64, err error) {
	for after := (Item{}); ; {
		items, err := q.Read(tx, after, checkItems)
		if err != nil {
			return 0, err
		}
		if len(items) == 0 {
			break
		}
		more, after = more+int64(len(items)), items[len(items)-1]
	}
	n, err := q.Len(tx).Get()
	return more - n, err
}

// Correct adds to the counters what Recount found in the snapshot of this transaction. It conflicts with nothing: whoever pushes
// or removes changes items and counters alike. Two that correct one queue at once would both add it, so their caller makes them
// conflict.
func (q Queue) Correct(tx backend.Tx, more int64) { tx.Add(q.prefix.Int(pushes), more) }
