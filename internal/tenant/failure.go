package tenant

import (
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Failure is why the last attempt of a message failed, while it is tried again or halts its server. It stands beside the
// head, which every turn reads and which stays small, and is written and cleared in the commits that write and clear the
// attempts: those of a lane's head, or those of locked work. Its field names are part of the stored format.
type Failure struct {
	Stamp [12]byte `cbor:"stamp"` // of the message
	Of    int      `cbor:"of"`    // how many attempts there are, for who counted
	Text  string   `cbor:"text"`
	Stack string   `cbor:"stack,omitempty"`
	At    int64    `cbor:"at"` // Unix milliseconds, by the clock of the consumer, for people
}

// NewFailure is why an attempt failed now, one of so many. Text and stack are cut to what a dead letter has of them.
func NewFailure(stamp backend.Versionstamp, of int, text, stack string) Failure {
	return Failure{
		Stamp: stamp, Of: of, Text: Truncate(text, MaxErrorText), Stack: Truncate(stack, maxStack), At: time.Now().UnixMilli(),
	}
}

// Where failures stand: by the number of their lane, and that of locked work.
const failureOfLock = int64(queue.Normal) + 1

func (t Keys) failure(of int64) backend.Key { return t.Key.Str(KeyFailure).Int(of) }

// FailurePlace reads what stands in the key of a failure: its lane, or that it is of locked work.
func FailurePlace(rest backend.Key) (lane queue.Lane, is, isLock bool) {
	elements, err := rest.Elements()
	if err != nil || len(elements) != 1 {
		return 0, false, false
	}
	of, isNumber := elements[0].(int64)
	is = isNumber && of >= int64(queue.Priority) && of <= failureOfLock
	return queue.Lane(of), is, is && of == failureOfLock
}

// SetLockFailure writes why locked work failed.
func (t Keys) SetLockFailure(tx backend.Tx, f Failure) {
	tx.Set(t.failure(failureOfLock), EncodeRecord(f))
}

// ReadFailure starts to read why the head of a lane failed, and ReadLockFailure why locked work did. It is read as a
// snapshot; none is zero.
func (t Keys) ReadFailure(tx backend.Reader, lane queue.Lane) backend.Future[Failure] {
	return t.readFailure(tx, int64(lane))
}

// ReadLockFailure is ReadFailure of locked work.
func (t Keys) ReadLockFailure(tx backend.Reader) backend.Future[Failure] {
	return t.readFailure(tx, failureOfLock)
}

func (t Keys) readFailure(tx backend.Reader, of int64) backend.Future[Failure] {
	read := tx.GetRange(t.failure(of).Only(), backend.RangeOptions{Limit: 1, Snapshot: true})
	return backend.Later(func() (f Failure, err error) {
		pairs, err := read.Get()
		if err == nil && len(pairs) > 0 {
			err = DecodeRecord(pairs[0].Value, &f)
		}
		return f, err
	})
}

// ClearAttempt makes the head of a lane be tried anew, or forgets it with its message.
func (t Keys) ClearAttempt(tx backend.Tx, lane queue.Lane) {
	tx.Clear(t.Attempts(lane).Only())
	tx.Clear(t.failure(int64(lane)).Only())
}

// ClearAttempts is ClearAttempt of both lanes.
func (t Keys) ClearAttempts(tx backend.Tx) {
	t.ClearAttempt(tx, queue.Priority)
	t.ClearAttempt(tx, queue.Normal)
}

// ClearLockFailure forgets why locked work failed.
func (t Keys) ClearLockFailure(tx backend.Tx) { tx.Clear(t.failure(failureOfLock).Only()) }
