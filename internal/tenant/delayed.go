package tenant

import (
	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// DelayedFound is one send with After: a message, or those of a CastAll.
type DelayedFound struct {
	Word   string
	Record Delayed // without items when it is damaged: then nobody can be told
}

// DelayedPage is messages that wait for their time.
type DelayedPage struct {
	Found []DelayedFound
	Rest  backend.Range // where the next page is
	Last  bool          // there is none
}

// All is the messages of the page.
func (p DelayedPage) All() (items []queue.Item) {
	for _, d := range p.Found {
		for _, body := range d.Record.Items {
			items = append(items, queue.Item{Body: body})
		}
	}
	return items
}

// Of leaves only what was sent after a kill, or only what was sent before it.
func (p DelayedPage) Of(tx backend.Reader, keys Keys, killed backend.Versionstamp, alive bool) (DelayedPage, error) {
	sent := make([]backend.Future[[]byte], len(p.Found))
	for i, d := range p.Found {
		sent[i] = tx.Get(keys.Sent(d.Word))
	}
	var left []DelayedFound
	for i, d := range p.Found {
		is, err := isAfter(sent[i], killed)
		if err != nil {
			return p, err
		}
		if is == alive {
			left = append(left, d)
		}
	}
	p.Found = left
	return p, nil
}

// isAfter reports whether what was sent then belongs to the server that came after a kill. Without a kill it does.
func isAfter(sent backend.Future[[]byte], killed backend.Versionstamp) (bool, error) {
	value, err := sent.Get()
	if err != nil {
		return false, err
	}
	stamp, err := backend.StampOf(value)
	return killed.IsZero() || stamp.Compare(killed) > 0, err
}

// ClearDelayed removes a send with After.
func (t Keys) ClearDelayed(tx backend.Tx, word string) {
	tx.Clear(t.Delayed(word).Tree())
	tx.Clear(t.Sent(word).Only())
}

// ReadDelayed reads the first messages of a range that wait for their time. Unless it is a snapshot, it conflicts with
// those that are sent meanwhile.
func (t Keys) ReadDelayed(tx backend.Reader, r backend.Range, snapshot bool) (p DelayedPage, err error) {
	pairs, err := tx.GetRange(r, backend.RangeOptions{Limit: maxDelayedRows, Bytes: maxDelayedBytes, Snapshot: snapshot}).Get()
	if err != nil {
		return p, err
	}
	p.Rest, p.Last = r, len(pairs) < maxDelayedRows && BytesOf(pairs) < maxDelayedBytes
	for len(pairs) > 0 {
		word, err := ChildOf(t.Key.Str(KeyLater), pairs[0].Key)
		if err != nil {
			return p, err
		}
		tree := t.Delayed(word).Tree()
		n := 1
		for n < len(pairs) && pairs[n].Key.Compare(tree.End) < 0 {
			n++
		}
		if n == len(pairs) && !p.Last && len(p.Found) > 0 {
			break // it may not be whole
		}
		d := DelayedFound{Word: word}
		if value, err := (LargeRead{t.Delayed(word), backend.Ready(pairs[:n], nil)}).Get(); err == nil {
			_ = DecodeRecord(value, &d.Record) // one that is damaged is removed as well
		}
		p.Found, p.Rest.Begin, pairs = append(p.Found, d), tree.End, pairs[n:]
	}
	return p, nil
}

// What a page holds of the messages with After: more than one of any size.
const (
	maxDelayedRows  = 256
	maxDelayedBytes = 8 << 20
)

// KilledAt is when the server was killed whose messages are not buried yet; zero when there is none.
func (t Keys) KilledAt(tx backend.Reader) (backend.Versionstamp, error) {
	value, err := tx.Get(t.killed()).Get()
	if err != nil {
		return backend.Versionstamp{}, err
	}
	return backend.StampOf(value)
}

// FindDelayed reads what waits for its time. In a transaction its disappearance is a conflict.
func (t Keys) FindDelayed(tx backend.Reader, id string) (DelayedFound, error) {
	d := DelayedFound{Word: id}
	killed, err := t.KilledAt(tx)
	if err != nil {
		return d, err
	}
	value, err := ReadLarge(tx, t.Delayed(id)).Get()
	if err != nil {
		return d, err
	}
	alive, err := isAfter(tx.Get(t.Sent(id)), killed)
	switch {
	case err != nil:
		return d, err
	case value == nil || !alive:
		return d, Because(ErrNotFound, "no delayed message %q waits", id)
	}
	_ = DecodeRecord(value, &d.Record) // one that is damaged can be removed as well
	return d, nil
}

// maxDelayedCount is how many sends with After a Status counts.
const maxDelayedCount = 1000

// CountDelayed begins to count the sends that wait for their time.
func (t Keys) CountDelayed(tx backend.Reader) backend.Future[[]backend.KeyValue] {
	return tx.GetRange(t.Key.Str(KeySent).Below(), backend.RangeOptions{Limit: maxDelayedCount, Snapshot: true})
}

// Delayed is messages that were sent with After. Its field names are part of the stored format.
type Delayed struct {
	Items [][]byte `cbor:"items"`
	Lane  int      `cbor:"lane"`
	At    int64    `cbor:"at,omitempty"` // Unix milliseconds, as in the index; 0 in records of older versions
}
