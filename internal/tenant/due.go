package tenant

import (
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// The index of what is due: timers, messages sent with After, and idempotency keys that expire. Each shard has its rows in the
// order of their time, those of all its types. A consumer sleeps until the first row of a shard is due, its bell rings because an
// earlier one was set, or a while has passed; then it moves what is due, each row in the commit that does its work, whether or
// not it runs that type: a timer becomes a message, which needs no handler. So rows that are not due cost no goroutine and no
// read, however many types there are, and a consumer that starts late finds all of them.
//
// A row that cannot be read, or whose record cannot, is left alone: it is logged once, Check reports it, and the others of
// its shard go on.
//
// A row is due by the wall clock of whoever reads it: a consumer whose clock is wrong fires early or late, not twice.

type dueKind int64

const (
	dueTimer   dueKind = iota // Name is a timer, Set its setting
	DueMessage                // Name is a delayed message
	DueOnce                   // Name is an idempotency key
)

// Due is a row of the index.
type Due struct {
	At   int64 // Unix milliseconds
	Kind dueKind
	Name string
	Set  string
}

// dueIn is the first millisecond at which d has passed: a row has whole ones, and must not be due before its time.
func dueIn(d time.Duration) int64 { return time.Now().Add(d).Add(time.Millisecond - 1).UnixMilli() }

// DueShard is where the rows of a shard are.
func DueShard(shard int64) backend.Key { return backend.NewKey(KeyDue, shard) }

// Key is the row's.
func (d Due) Key(ref Ref) backend.Key {
	return DueShard(ShardOf(ref)).Int(d.At).Str(ref.Type, ref.ID).Int(int64(d.Kind)).Str(d.Name, d.Set)
}

// ParseDue reads the key of a row. Its error is backend.ErrCorrupt.
func ParseDue(shard, key backend.Key) (ref Ref, d Due, err error) {
	rest, _ := key.CutPrefix(shard)
	elements, err := rest.Elements()
	if err != nil {
		return ref, d, err
	}
	if len(elements) == 6 {
		at, ok1 := elements[0].(int64)
		typ, ok2 := elements[1].(string)
		id, ok3 := elements[2].(string)
		kind, ok4 := elements[3].(int64)
		name, ok5 := elements[4].(string)
		set, ok6 := elements[5].(string)
		if ok1 && ok2 && ok3 && ok4 && ok5 && ok6 && kind >= int64(dueTimer) && kind <= int64(DueOnce) {
			return Ref{typ, id}, Due{at, dueKind(kind), name, set}, nil
		}
	}
	return ref, d, fmt.Errorf("%w: the row %v in the index of what is due", backend.ErrCorrupt, key)
}

// SetDue writes a row and rings the bell of those that wait for it.
func SetDue(tx backend.Tx, ref Ref, d Due) {
	tx.Set(d.Key(ref), nil)
	tx.Add(DueBell(ShardOf(ref)), 1)
}

// ClearDue removes a row.
func ClearDue(tx backend.Tx, ref Ref, d Due) { tx.Clear(d.Key(ref).Only()) }

// DueWork is a row with what it is about.
type DueWork struct {
	Due
	Ref    Ref
	record LargeRead

	// Of a delayed message: its server was killed and is not buried yet, so whose it is has to be asked.
	killed, sent backend.Future[[]byte]
	dead         bool

	Value []byte // of the record
	Err   error
}

// Look starts the reads.
func (w *DueWork) Look(tx backend.Reader) {
	w.record = ReadLarge(tx, w.at())
	if keys := KeysOf(w.Ref); w.Kind == DueMessage {
		w.killed, w.sent = tx.Get(keys.killed()), tx.Get(keys.Sent(w.Name))
	}
}

// Get returns what the row is about, nil when it is gone.
func (w *DueWork) Get() ([]byte, error) {
	value, err := w.killed.Get()
	if err != nil {
		return nil, err
	}
	killed, err := backend.StampOf(value)
	if err != nil {
		return nil, err
	}
	alive, err := isAfter(w.sent, killed)
	if err != nil {
		return nil, err
	}
	w.dead = !alive
	return w.record.Get()
}

// at is the key of what the row is about.
func (w *DueWork) at() backend.Key {
	keys := KeysOf(w.Ref)
	switch w.Kind {
	case dueTimer:
		return keys.timer(w.Name)
	case DueMessage:
		return keys.Delayed(w.Name)
	default:
		return keys.Once(w.Name)
	}
}

// Do is the work. Damage is found before anything is written.
func (w *DueWork) Do(tx backend.Tx) error {
	switch {
	case w.Kind == dueTimer:
		return w.fire(tx, w.Ref, w.Value)
	case w.Kind == DueOnce:
		return w.expire(tx, w.Ref, w.Value)
	case w.Value == nil || w.dead:
		return nil
	}
	var d Delayed
	if err := DecodeRecord(w.Value, &d); err != nil {
		return err
	}
	KeysOf(w.Ref).ClearDelayed(tx, w.Name)
	return pushReady(tx, w.Ref, queue.Lane(d.Lane), d.Items...)
}
