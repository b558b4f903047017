// Package queue is a durable first-in-first-out queue of bytes over a backend's transactions. It knows nothing of
// servers, messages or consumers.
//
// A program of durable servers needs nothing of it: a server's mailbox is one of these queues, and package dserver does
// all that is to be done to it. It is for programs that work on a [backend.Database] themselves and want a queue there
// that is part of their own transactions: [At] is the queue at a key, [Queue.Push] appends, [Queue.Read] and
// [Queue.Remove] take. The others ([Queue.Rows], [Queue.Parse], [Queue.Drop] and so on) read the queue together with other
// keys, or by place, as the library does.
//
// An item's place is the versionstamp of the commit that pushed it, so the order of the queue is the order of commits,
// and pushes never conflict with each other or with a take:
//
//	prefix 0 stamp   rows of the priority lane, which is taken first
//	prefix 1 stamp   rows of the normal lane
//	         stamp n row n of a large item that was put in the place of another one
//	prefix 2         how many items were ever pushed, a counter
//	prefix 3         how many items were ever removed, a counter
//
// An item that is larger than a row is cut into consecutive rows of one transaction (package chunk); its stamp is the
// first one's. One that was replaced (Replace) has its other rows below the first: the stamps after it may be other items'.
//
// A consumer reads Rows as a snapshot, together with what else it needs, gives what it got to Parse, and removes what
// it handled with Remove, which conflicts on just those items: of two consumers that took one item only one commits,
// and no push is ever in their way.
package queue

import (
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/chunk"
)

// Lane is one of the two orders of a queue.
type Lane int

// The priority lane is taken before the normal one.
const (
	Priority Lane = iota
	Normal
	lanes

	pushes = 2
	pops   = 3
)

// MaxItemBytes is the largest item. It leaves room in a value for what is kept with an item that is set aside.
const MaxItemBytes = chunk.MaxBytes - 64<<10

// Queue is a place in the store. It holds no state and does no I/O.
type Queue struct{ prefix backend.Key }

// At returns the queue at prefix, below which nothing else may be written.
func At(prefix backend.Key) Queue { return Queue{prefix} }

// Item is a message on the queue.
type Item struct {
	Lane  Lane
	Stamp backend.Versionstamp // where in the order it is; names it
	Body  []byte

	last backend.Versionstamp // of its rows
}

// Push appends items, in order, with nothing in between. It reads nothing and conflicts with nothing. An item over
// MaxItemBytes is backend.ErrTooLarge, and nothing was pushed.
func (q Queue) Push(tx backend.Tx, lane Lane, items ...[]byte) error {
	rows := make([][]byte, 0, len(items))
	for _, item := range items {
		if len(item) > MaxItemBytes {
			return fmt.Errorf("%w: an item of %d bytes; at most %d", backend.ErrTooLarge, len(item), MaxItemBytes)
		}
		cut, err := chunk.Split(item)
		if err != nil {
			return fmt.Errorf("%w: %w", backend.ErrTooLarge, err)
		}
		rows = append(rows, cut...)
	}
	prefix := q.prefix.Int(int64(lane))
	for _, row := range rows {
		tx.Append(prefix, row)
	}
	tx.Add(q.prefix.Int(pushes), int64(len(items)))
	return nil
}

// Rows is the range of both lanes' rows, for a read that is given to Parse.
func (q Queue) Rows() backend.Range {
	return backend.Range{Begin: q.prefix.Int(int64(Priority)), End: q.prefix.Int(pushes)}
}

// Lane is the range of one lane's rows.
func (q Queue) Lane(l Lane) backend.Range { return q.prefix.Int(int64(l)).Below() }

// Parse returns the items whose rows are in pairs, which were read from the head of Rows. An item of which a limit of
// that read cut off some rows is left out, and whole is false; First reads it when it is the head.
func (q Queue) Parse(pairs []backend.KeyValue) (items []Item, whole bool, err error) {
	for len(pairs) > 0 {
		lane, stamp, err := q.place(pairs[0].Key)
		if err != nil {
			return nil, false, err
		}
		n, err := chunk.Count(pairs[0].Value)
		if err != nil {
			return nil, false, fmt.Errorf("%w: queue: item %v: %w", backend.ErrCorrupt, stamp, err)
		}
		if n > len(pairs) {
			return items, false, nil
		}
		item, err := q.join(lane, stamp, pairs[:n])
		if err != nil {
			return nil, false, err
		}
		items, pairs = append(items, item), pairs[n:]
	}
	return items, true, nil
}

func (q Queue) join(lane Lane, stamp backend.Versionstamp, pairs []backend.KeyValue) (Item, error) {
	item := Item{Lane: lane, Stamp: stamp, last: stamp}
	if len(pairs) == 1 {
		body, err := chunk.Join([][]byte{pairs[0].Value}) // it has a head when the body begins as one does
		item.Body = body
		return item, err
	}
	rows := make([][]byte, len(pairs))
	for i, pair := range pairs {
		at, isRow := q.isRow(item, i, pair.Key)
		if !isRow {
			return Item{}, fmt.Errorf("%w: queue: item %v lacks its row %d", backend.ErrCorrupt, stamp, i)
		}
		rows[i], item.last = pair.Value, at
	}
	body, err := chunk.Join(rows)
	if err != nil {
		return Item{}, fmt.Errorf("%w: queue: item %v: %w", backend.ErrCorrupt, stamp, err)
	}
	item.Body = body
	return item, nil
}

// isRow reports whether a key is that of an item's row i, and the stamp in it: the rows of an item have consecutive stamps,
// or, of one that was mended, are below its own.
func (q Queue) isRow(item Item, i int, key backend.Key) (at backend.Versionstamp, is bool) {
	if i > 0 && key.Compare(q.key(item).Int(int64(i))) == 0 {
		return item.Stamp, true
	}
	at, isStamp := key.CutStamp(q.prefix.Int(int64(item.Lane)))
	return at, isStamp && at == item.Stamp.Plus(i)
}

func (q Queue) place(key backend.Key) (Lane, backend.Versionstamp, error) {
	for lane := range lanes {
		if stamp, ok := key.CutStamp(q.prefix.Int(int64(lane))); ok {
			return lane, stamp, nil
		}
	}
	return 0, backend.Versionstamp{}, fmt.Errorf("%w: queue: key %v is no item", backend.ErrCorrupt, key)
}

// Read returns items after a place, Priority's first, as a snapshot: at most limit, and none only when none is left.
// After the zero Item it begins at the head.
func (q Queue) Read(tx backend.Reader, after Item, limit int) ([]Item, error) {
	r := q.Rows()
	if !after.Stamp.IsZero() {
		r = r.After(q.prefix.Int(int64(after.Lane)).Stamp(after.last))
	}
	return q.read(tx, r, limit)
}

// ReadBefore returns the first items that were pushed before a stamp, as a snapshot: at most limit, and none only when
// none is left.
func (q Queue) ReadBefore(tx backend.Reader, stamp backend.Versionstamp, limit int) (items []Item, err error) {
	for lane := Priority; lane < lanes && len(items) == 0 && err == nil; lane++ {
		prefix := q.prefix.Int(int64(lane))
		items, err = q.read(tx, backend.Range{Begin: prefix, End: prefix.Stamp(stamp)}, limit)
	}
	return items, err
}

// read returns items of a range of rows.
func (q Queue) read(tx backend.Reader, r backend.Range, limit int) ([]Item, error) {
	pairs, err := tx.GetRange(r, backend.RangeOptions{Limit: limit, Bytes: readBytes, Snapshot: true}).Get()
	if err != nil {
		return nil, err
	}
	items, whole, err := q.Parse(pairs)
	if err != nil || whole || len(items) > 0 {
		return items, err
	}
	first, ok, err := q.First(tx, r)
	if !ok || err != nil {
		return nil, err
	}
	return []Item{first}, nil
}

// readBytes bounds what one Read fetches, but for an item that is larger by itself.
const readBytes = 1 << 20

// First reads the first item of a range of rows whole, however large it is.
func (q Queue) First(tx backend.Reader, r backend.Range) (Item, bool, error) {
	head, err := tx.GetRange(r, backend.RangeOptions{Limit: 1, Snapshot: true}).Get()
	if err != nil || len(head) == 0 {
		return Item{}, false, err
	}
	n, err := chunk.Count(head[0].Value)
	if err != nil {
		return Item{}, false, fmt.Errorf("%w: queue: %w", backend.ErrCorrupt, err)
	}
	if n > 1 {
		if head, err = tx.GetRange(r, backend.RangeOptions{Limit: n, Snapshot: true}).Get(); err != nil {
			return Item{}, false, err
		}
	}
	items, _, err := q.Parse(head)
	if err != nil {
		return Item{}, false, err
	}
	if len(items) == 0 {
		return Item{}, false, fmt.Errorf("%w: queue: its first item is not whole", backend.ErrCorrupt)
	}
	return items[0], true, nil
}

// Find returns the item of this stamp. In a Tx its disappearance before the commit is a conflict.
func (q Queue) Find(tx backend.Reader, stamp backend.Versionstamp) (Item, bool, error) {
	var firsts [lanes]backend.Future[[]byte]
	for lane := range lanes {
		firsts[lane] = tx.Get(q.prefix.Int(int64(lane)).Stamp(stamp))
	}
	for lane := range lanes {
		first, err := firsts[lane].Get()
		if err != nil {
			return Item{}, false, err
		}
		if first != nil {
			prefix := q.prefix.Int(int64(lane))
			return q.First(tx, backend.Range{Begin: prefix.Stamp(stamp), End: prefix.Tree().End})
		}
	}
	return Item{}, false, nil
}

// Keep makes the disappearance of an item that this transaction has read a conflict.
func (q Queue) Keep(tx backend.Tx, item Item) { tx.Conflict(q.key(item)) }

// KeepEnd makes a push that comes before the commit a conflict: so the stamps of its commit that follow its Version are not
// those of other items of this queue.
func (q Queue) KeepEnd(tx backend.Tx) error {
	var ends [lanes]backend.Future[[]backend.KeyValue]
	for lane := range lanes {
		ends[lane] = tx.GetRange(q.Lane(lane), backend.RangeOptions{Limit: 1, Reverse: true})
	}
	for _, end := range ends {
		if _, err := end.Get(); err != nil {
			return err
		}
	}
	return nil
}

// Remove takes items out. In each lane they must be neighbours, as Parse and Read return them: they cost one write.
// It conflicts with whoever else removes one of them.
func (q Queue) Remove(tx backend.Tx, items ...Item) {
	for _, item := range items {
		q.Keep(tx, item)
	}
	tx.Add(q.prefix.Int(pops), int64(len(items)))
	for len(items) > 0 {
		n := 1
		for n < len(items) && items[n].Lane == items[0].Lane {
			n++
		}
		last := items[n-1]
		tx.Clear(backend.Range{
			Begin: q.key(items[0]),
			End:   q.end(last),
		})
		items = items[n:]
	}
}

// Drop removes the first n items, of which last is the last one. It conflicts with nothing: it is for a queue that has
// one reader.
func (q Queue) Drop(tx backend.Tx, last Item, n int) {
	tx.Clear(backend.Range{
		Begin: q.prefix.Int(int64(Priority)),
		End:   q.end(last),
	})
	tx.Add(q.prefix.Int(pops), int64(n))
}

// Replace gives an item that was read another body, in its place: its stamp and the order of the queue stay. It conflicts
// with whoever else replaces or removes the item. Stores that compare values see that only where the first row of the new body
// is another one than that of the old, which its caller takes care of. A body over MaxItemBytes is backend.ErrTooLarge, and
// nothing was replaced.
func (q Queue) Replace(tx backend.Tx, item Item, body []byte) error {
	if len(body) > MaxItemBytes {
		return fmt.Errorf("%w: an item of %d bytes; at most %d", backend.ErrTooLarge, len(body), MaxItemBytes)
	}
	rows, err := chunk.Split(body)
	if err != nil {
		return fmt.Errorf("%w: %w", backend.ErrTooLarge, err)
	}
	key := q.key(item)
	tx.Conflict(key)
	tx.Clear(backend.Range{Begin: key, End: q.end(item)})
	tx.Set(key, rows[0])
	for i, row := range rows[1:] {
		tx.Set(key.Int(int64(i+1)), row)
	}
	return nil
}

// Place appends an item under a stamp of its caller's, who sees to the order: it is after that of all items of the lane, before
// those of all pushes to come, and nobody else's. A body over MaxItemBytes is backend.ErrTooLarge, and nothing was placed.
func (q Queue) Place(tx backend.Tx, lane Lane, stamp backend.Versionstamp, body []byte) error {
	if err := q.Replace(tx, Item{Lane: lane, Stamp: stamp, last: stamp}, body); err != nil {
		return err
	}
	tx.Add(q.prefix.Int(pushes), 1)
	return nil
}

// end is behind all rows of an item.
func (q Queue) end(item Item) backend.Key {
	return q.prefix.Int(int64(item.Lane)).Stamp(item.last).Tree().End
}

func (q Queue) key(item Item) backend.Key { return q.prefix.Int(int64(item.Lane)).Stamp(item.Stamp) }

// Len is how many items wait, from two counters. It conflicts with nothing.
func (q Queue) Len(tx backend.Reader) backend.Future[int64] {
	read := tx.GetRange(backend.Range{Begin: q.prefix.Int(pushes), End: q.prefix.Int(pops).Only().End},
		backend.RangeOptions{Snapshot: true})
	return backend.Later(func() (int64, error) { return q.count(read) })
}

func (q Queue) count(read backend.Future[[]backend.KeyValue]) (int64, error) {
	pairs, err := read.Get()
	if err != nil {
		return 0, err
	}
	var n int64
	for _, pair := range pairs {
		count, err := backend.Counter(pair.Value)
		if err != nil {
			return 0, err
		}
		if pair.Key.Compare(q.prefix.Int(pops)) == 0 {
			count = -count
		}
		n += count
	}
	return n, nil
}

// IsEmpty reports whether no item waits. A push before the commit is a conflict: it is for the transaction that
// concludes something from emptiness, and for that alone.
func (q Queue) IsEmpty(tx backend.Reader) (bool, error) {
	pairs, err := tx.GetRange(q.Rows(), backend.RangeOptions{Limit: 1}).Get()
	return len(pairs) == 0, err
}
