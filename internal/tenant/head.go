package tenant

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Head is what a turn reads first of a server, in one range: the records that decide whether it may go on, and the
// head of its queue. It is read as a snapshot, so that pushes do not abort turns; the turn then conflicts on the
// records, and on the items that it takes.
type Head struct {
	Version    backend.Versionstamp
	Meta       Meta
	about      []byte      // meta's record
	Attempts   [2]Attempts // of the lanes' heads
	Lock       Lock
	Unreadable UnreadableRecord // why a consumer could not read the state
	Owner      string           // the consumer that wrote the state last, if it may recall
	Pin        Pin
	Paused     Paused               // by an operator: nothing is handled
	Killed     backend.Versionstamp // all that was pushed before is dead, and not buried yet
	Items      []queue.Item
	All        bool // items are all that is stored
}

// Meta is what is known of a server beside its state. Its field names are part of the stored format.
type Meta struct {
	Created int64 `cbor:"created"` // Unix milliseconds; 0: there is no record
	Schema  int   `cbor:"schema"`  // version of the state's rows
}

// HeadRecords is more than the records of a head, so that a read of a batch has room for them.
const HeadRecords = 16

// Known is what is remembered of a state: it saves decoding what the head has under the same version.
type Known struct {
	Version backend.Versionstamp
	Meta    Meta
}

// ReadHead reads a server's head. Where the read is no snapshot, a change of what it read is a conflict.
func ReadHead(tx backend.Reader, keys Keys, h *Head, k Known, isSnapshot bool) error {
	limit := MaxBatch + HeadRecords
	pairs, err := tx.GetRange(keys.headAndQueue(),
		backend.RangeOptions{Limit: limit, Bytes: maxBatchBytes, Snapshot: isSnapshot}).Get()
	if err != nil {
		return fmt.Errorf("read the queue: %w", err)
	}
	*h = Head{All: len(pairs) < limit && BytesOf(pairs) < maxBatchBytes}
	rows, err := h.cut(keys.Head(), pairs)
	if err != nil {
		return err
	}
	if !k.Version.IsZero() && k.Version == h.Version {
		h.Meta = k.Meta
	} else if err := h.decodeMeta(); err != nil {
		return err
	}
	items, whole, err := keys.Queue().Parse(rows)
	if err != nil {
		return err
	}
	h.Items, h.All = items, h.All && whole
	if len(items) == 0 && !whole {
		err = h.large(tx, keys.Queue().Rows(), keys.Queue())
	} else if !h.All && items[len(items)-1].Lane == queue.Priority {
		err = h.large(tx, keys.Queue().Lane(queue.Normal), keys.Queue())
	}
	return err
}

// BytesOf is how large pairs are, as a read counts them.
func BytesOf(pairs []backend.KeyValue) int {
	n := 0
	for _, pair := range pairs {
		n += len(pair.Key) + len(pair.Value)
	}
	return n
}

// Records reads the pairs below prefix.
func (h *Head) Records(prefix backend.Key, pairs []backend.KeyValue) error {
	if _, err := h.cut(prefix, pairs); err != nil {
		return err
	}
	return h.decodeMeta()
}

func (h *Head) decodeMeta() error {
	if h.about == nil {
		return nil
	}
	return DecodeRecord(h.about, &h.Meta)
}

// cut reads the pairs below prefix but for meta, and returns those after them.
func (h *Head) cut(prefix backend.Key, pairs []backend.KeyValue) ([]backend.KeyValue, error) {
	for i, pair := range pairs {
		name, ok := pair.Key.CutPrefix(prefix)
		if !ok {
			return pairs[i:], nil
		}
		if err := h.record(name, pair.Value); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (h *Head) record(name backend.Key, value []byte) (err error) {
	switch string(name) {
	case RecordVersion:
		h.Version, err = backend.StampOf(value)
	case RecordMeta:
		h.about = value
	case RecordAttempts[queue.Priority]:
		err = DecodeRecord(value, &h.Attempts[queue.Priority])
	case RecordAttempts[queue.Normal]:
		err = DecodeRecord(value, &h.Attempts[queue.Normal])
	case RecordLock:
		err = DecodeRecord(value, &h.Lock.Record)
	case RecordFence:
		h.Lock.Fence, err = backend.StampOf(value)
	case RecordBeat:
		h.Lock.Beat = string(value)
	case RecordOwner:
		h.Owner = string(value)
	case RecordPin:
		h.Pin = Pin{true, string(value)}
	case RecordPaused:
		err = DecodeRecord(value, &h.Paused)
	case RecordUnread:
		err = DecodeRecord(value, &h.Unreadable)
	case RecordKilled:
		h.Killed, err = backend.StampOf(value)
	}
	return err
}

// The names of the records as they stand in keys.
var (
	RecordVersion  = "" // so what is recalled beside it is one range
	RecordMeta     = string(backend.NewKey(keyMeta))
	RecordLock     = string(backend.NewKey(keyLock))
	RecordFence    = string(backend.NewKey(keyFence))
	RecordOwner    = string(backend.NewKey(keyOwner))
	RecordBeat     = string(backend.NewKey(keyBeat))
	RecordPin      = string(backend.NewKey(keyPin))
	RecordPaused   = string(backend.NewKey(keyPaused))
	RecordUnread   = string(backend.NewKey(keyUnread))
	RecordKilled   = string(backend.NewKey(keyKilled))
	RecordAttempts = [2]string{
		string(backend.NewKey(keyAttempts, int64(queue.Priority))),
		string(backend.NewKey(keyAttempts, int64(queue.Normal))),
	}
)

// large reads the first item of a range, which the batch's read did not reach or did not get whole: a message larger
// than a batch, or the first of the normal lane when the priority lane fills it.
func (h *Head) large(tx backend.Reader, r backend.Range, q queue.Queue) error {
	item, ok, err := q.First(tx, r)
	if ok {
		h.Items = append(h.Items, item)
	}
	return err
}

// IsAs reports whether nothing has changed from one look to another that decides about what can be handled.
func (h *Head) IsAs(seen *Head) bool {
	sameItem := func(a, b queue.Item) bool { return a.Stamp == b.Stamp && a.Lane == b.Lane }
	return h.Version == seen.Version && bytes.Equal(h.about, seen.about) && h.Attempts == seen.Attempts &&
		h.Lock == seen.Lock && h.Pin == seen.Pin && h.Paused == seen.Paused && h.Killed == seen.Killed && h.All == seen.All &&
		slices.EqualFunc(h.Items, seen.Items, sameItem)
}

// Halts reports whether nothing can be handled before an operator acts, or another message comes.
func (h *Head) Halts() bool {
	if h.Paused.Is() && h.Killed.IsZero() {
		return true
	}
	if !h.Killed.IsZero() || h.Lock.IsHeld() && !h.Lock.Record.Halted {
		return false
	}
	var next [2]*queue.Item
	for i := range slices.Backward(h.Items) {
		next[h.Items[i].Lane] = &h.Items[i]
	}
	if h.Lock.IsHeld() {
		next[queue.Normal] = nil
	}
	for lane, item := range next {
		if item != nil && (!h.Attempts[lane].Halts || !h.Attempts[lane].IsOf(*item)) {
			return false
		}
	}
	return true
}

// IsQuiet reports whether there is nothing but a state.
func (h *Head) IsQuiet() bool {
	return h.All && len(h.Items) == 0 && !h.Lock.IsHeld() && h.Attempts == [2]Attempts{} && h.Killed.IsZero() &&
		!h.Paused.Is() && h.Meta.Created != 0 && h.Unreadable == (UnreadableRecord{})
}

// UnreadableRecord says why a consumer could not read the state. Its field names are part of the stored format.
type UnreadableRecord struct {
	Text string `cbor:"text"`
}

// IsThere reports whether a key that is read is there.
func IsThere(f backend.Future[[]byte]) (bool, error) {
	value, err := f.Get()
	return value != nil, err
}

// BesideVersion is the records of a server but its version, which is the first, and its queue.
func (t Keys) BesideVersion() backend.Range {
	return backend.Range{Begin: t.Version().Only().End, End: t.headAndQueue().End}
}

// NextMessages is the names of what is under the lock and of the first message of each lane, as far as they can be read.
func (t Keys) NextMessages(tx backend.Reader) (names []string, err error) {
	l, err := ReadLock(tx, t)
	if err != nil {
		return nil, err
	}
	if l.IsHeld() {
		names = append(names, l.Record.Name)
	}
	for _, lane := range []queue.Lane{queue.Priority, queue.Normal} {
		item, ok, err := t.Queue().First(tx, t.Queue().Lane(lane))
		if err != nil {
			return nil, err
		}
		if env, err := DecodeEnvelope(item.Body); ok && err == nil {
			names = append(names, env.Name)
		}
	}
	return names, nil
}

// What is read of a queue at once. The store's own limits are above them, so that a commit has room.
const (
	MaxBatch      = 256     // messages
	maxBatchBytes = 1 << 20 // of messages as they are stored
)

// Waiting finds a message on the queue. In a transaction its disappearance is a conflict.
func (t Keys) Waiting(tx backend.Reader, stamp backend.Versionstamp) (queue.Item, error) {
	item, found, err := t.Queue().Find(tx, stamp)
	if err == nil && !found {
		err = Because(ErrNotFound, "no message %v waits", stamp)
	}
	return item, err
}
