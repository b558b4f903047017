package dserver

import (
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// head is what a turn reads first of a server, in one range: the records that decide whether it may go on, and the
// head of its queue. It is read as a snapshot, so that pushes do not abort turns; the turn then conflicts on the
// records, and on the items that it takes.
type head struct {
	version    backend.Versionstamp
	meta       meta
	about      []byte      // meta's record
	attempts   [2]attempts // of the lanes' heads
	lock       lock
	unreadable unreadableRecord     // why a consumer could not read the state
	owner      string               // the consumer that wrote the state last, if it may recall
	killed     backend.Versionstamp // all that was pushed before is dead, and not buried yet
	items      []queue.Item
	all        bool // items are all that is stored
}

// meta is what is known of a server beside its state. Its field names are part of the stored format.
type meta struct {
	Created int64 `cbor:"created"` // Unix milliseconds; 0: there is no record
	Schema  int   `cbor:"schema"`  // version of the state's rows
}

// headRecords is more than the records of a head, so that a read of a batch has room for them.
const headRecords = 12

// readHead reads a server's head. What is cached of its state saves decoding what it has under the same version. Where
// the read is no snapshot, a change of what it read is a conflict.
func readHead(tx backend.Reader, keys tenant, h *head, cached state, isSnapshot bool) error {
	limit := maxBatch + headRecords
	pairs, err := tx.GetRange(keys.headAndQueue(),
		backend.RangeOptions{Limit: limit, Bytes: maxBatchBytes, Snapshot: isSnapshot}).Get()
	if err != nil {
		return fmt.Errorf("read the queue: %w", err)
	}
	*h = head{all: len(pairs) < limit && bytesOf(pairs) < maxBatchBytes}
	rows, err := h.cut(keys.head(), pairs)
	if err != nil {
		return err
	}
	if cached.rows != nil && cached.version == h.version {
		h.meta = cached.meta
	} else if err := h.decodeMeta(); err != nil {
		return err
	}
	items, whole, err := keys.queue().Parse(rows)
	if err != nil {
		return err
	}
	h.items, h.all = items, h.all && whole
	if len(items) == 0 && !whole {
		err = h.large(tx, keys.queue().Rows(), keys.queue())
	} else if !h.all && items[len(items)-1].Lane == queue.Priority {
		err = h.large(tx, keys.queue().Lane(queue.Normal), keys.queue())
	}
	return err
}

func bytesOf(pairs []backend.KeyValue) int {
	n := 0
	for _, pair := range pairs {
		n += len(pair.Key) + len(pair.Value)
	}
	return n
}

// records reads the pairs below prefix.
func (h *head) records(prefix backend.Key, pairs []backend.KeyValue) error {
	if _, err := h.cut(prefix, pairs); err != nil {
		return err
	}
	return h.decodeMeta()
}

func (h *head) decodeMeta() error {
	if h.about == nil {
		return nil
	}
	return decodeRecord(h.about, &h.meta)
}

// cut reads the pairs below prefix but for meta, and returns those after them.
func (h *head) cut(prefix backend.Key, pairs []backend.KeyValue) ([]backend.KeyValue, error) {
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

func (h *head) record(name backend.Key, value []byte) (err error) {
	switch string(name) {
	case recordVersion:
		h.version, err = backend.StampOf(value)
	case recordMeta:
		h.about = value
	case recordAttempts[queue.Priority]:
		err = decodeRecord(value, &h.attempts[queue.Priority])
	case recordAttempts[queue.Normal]:
		err = decodeRecord(value, &h.attempts[queue.Normal])
	case recordLock:
		err = decodeRecord(value, &h.lock.record)
	case recordFence:
		h.lock.fence, err = backend.StampOf(value)
	case recordBeat:
		h.lock.beat = string(value)
	case recordOwner:
		h.owner = string(value)
	case recordUnread:
		err = decodeRecord(value, &h.unreadable)
	case recordKilled:
		h.killed, err = backend.StampOf(value)
	}
	return err
}

// The names of the records as they stand in keys.
var (
	recordVersion  = "" // so what is recalled beside it is one range
	recordMeta     = string(backend.NewKey(keyMeta))
	recordLock     = string(backend.NewKey(keyLock))
	recordFence    = string(backend.NewKey(keyFence))
	recordOwner    = string(backend.NewKey(keyOwner))
	recordBeat     = string(backend.NewKey(keyBeat))
	recordUnread   = string(backend.NewKey(keyUnread))
	recordKilled   = string(backend.NewKey(keyKilled))
	recordAttempts = [2]string{
		string(backend.NewKey(keyAttempts, int64(queue.Priority))),
		string(backend.NewKey(keyAttempts, int64(queue.Normal))),
	}
)

// large reads the first item of a range, which the batch's read did not reach or did not get whole: a message larger
// than a batch, or the first of the normal lane when the priority lane fills it.
func (h *head) large(tx backend.Reader, r backend.Range, q queue.Queue) error {
	item, ok, err := q.First(tx, r)
	if ok {
		h.items = append(h.items, item)
	}
	return err
}
