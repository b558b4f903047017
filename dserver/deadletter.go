package dserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/chunk"
	"github.com/dserver-go/dserver/queue"
)

// letter is a dead letter as it is stored: below the tenant's key, by the stamp that the message had on the queue. A
// message that was never on the queue gets the stamp of the commit that set it aside. Its field names are part of the
// stored format.
//
// An item that makes the letter larger than a row stands in rows of its own below it. So whatever fits on the queue can
// be set aside, with all that is added here.
type letter struct {
	Item     []byte `cbor:"item,omitzero"` // the message as it was on the queue, readable or not; nil: in rows below
	Err      Error  `cbor:"error"`
	Stack    string `cbor:"stack,omitempty"`
	Attempts int    `cbor:"attempts"`
	Since    int64  `cbor:"since"` // Unix milliseconds
}

func newLetter(r result) letter {
	l := letter{Err: *r.err, Attempts: 1, Since: time.Now().UnixMilli()}
	if r.released != nil {
		l.Stack, l.Attempts = truncate(r.released.stack, maxStack), r.released.attempt
	}
	if r.item != nil {
		l.Item = append([]byte{}, r.item.Body...) // one of no bytes is not one in rows below
		return l
	}
	l.Item = encodeRecord(newEnvelope(r.arrival.message, ""))
	return l
}

// writeLetter stores a letter and counts it.
func (t tenant) writeLetter(tx backend.Tx, item *queue.Item, l letter) error {
	tx.Add(t.dead(), 1)
	row := encodeRecord(l)
	if item == nil { // a local arrival is small: one row
		tx.Append(t.dead(), row)
		return nil
	}
	key := t.dead().Stamp(item.Stamp)
	if len(row) > chunk.Bytes {
		rows, err := chunk.Split(l.Item)
		if err != nil {
			return err
		}
		for i, part := range rows {
			tx.Set(key.Int(int64(i)), part)
		}
		l.Item = nil
		row = encodeRecord(l)
	}
	tx.Set(key, row)
	return nil
}

// letterOf reads a letter whose first row is value.
func (t tenant) letterOf(tx backend.Reader, stamp backend.Versionstamp, value []byte) (letter, error) {
	var l letter
	if err := decodeRecord(value, &l); err != nil {
		return l, fmt.Errorf("the dead letter %v: %w", stamp, err)
	}
	if l.Item != nil {
		return l, nil
	}
	pairs, err := tx.GetRange(t.dead().Stamp(stamp).Below(), backend.RangeOptions{Snapshot: true}).Get()
	if err != nil {
		return l, err
	}
	rows := make([][]byte, len(pairs))
	for i, pair := range pairs {
		rows[i] = pair.Value
	}
	if l.Item, err = chunk.Join(rows); err != nil {
		return l, fmt.Errorf("%w: the dead letter %v: %w", backend.ErrCorrupt, stamp, err)
	}
	return l, nil
}

// findLetter reads a letter. In a transaction its disappearance is a conflict.
func (t tenant) findLetter(tx backend.Reader, stamp backend.Versionstamp) (letter, error) {
	value, err := tx.Get(t.dead().Stamp(stamp)).Get()
	if err != nil {
		return letter{}, err
	}
	if value == nil {
		return letter{}, noLetter(stamp)
	}
	return t.letterOf(tx, stamp, value)
}

func noLetter(stamp backend.Versionstamp) error {
	return because(ErrNotFound, "there is no dead letter %v", stamp)
}

// removeLetter clears a letter that was found in the same transaction.
func (t tenant) removeLetter(tx backend.Tx, stamp backend.Versionstamp) {
	tx.Clear(t.dead().Stamp(stamp).Tree())
	tx.Add(t.dead(), -1)
}

// DeadLetter is a message that failed for good or was refused, and why. It is kept beside the queue for an operator.
type DeadLetter struct {
	Stamp    backend.Versionstamp // when it was pushed, in commit order; names it
	Message  Message              // without a Name when it cannot be read: then Body is all that is stored
	Err      Error
	Stack    string // of a panic; of a message that could not be decoded, why
	Attempts int
	Since    time.Time // when it became a dead letter, by the clock of the consumer
}

func (l letter) public(stamp backend.Versionstamp) DeadLetter {
	message, _ := readable(l.Item)
	return DeadLetter{
		Stamp: stamp, Message: message, Err: l.Err, Stack: l.Stack, Attempts: l.Attempts, Since: time.UnixMilli(l.Since),
	}
}

// What is read of dead letters from one snapshot.
const (
	maxLetters     = 100
	maxLetterBytes = 1 << 20
)

// DeadLetters yields the server's dead letters, oldest first. An error ends it. It reads page by page, so the loop may
// take its time; letters that come or go meanwhile may be missed.
func (s *DServer[S]) DeadLetters(ctx context.Context) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		if err := s.check(ctx, "DeadLetters"); err != nil {
			yield(DeadLetter{}, err)
			return
		}
		for rest := tenantOf(s.Ref()).dead().Below(); ; {
			page, err := s.letters(ctx, rest)
			if err != nil {
				yield(DeadLetter{}, err)
				return
			}
			for _, d := range page {
				if !yield(d, nil) {
					return
				}
			}
			if len(page) == 0 {
				return
			}
			rest = rest.After(tenantOf(s.Ref()).dead().Stamp(page[len(page)-1].Stamp))
		}
	}
}

// letters reads the first letters of a range. Rows of a large one count as well, so that a page stays small.
func (h handle) letters(ctx context.Context, rest backend.Range) (page []DeadLetter, err error) {
	err = h.read(ctx, "read the dead letters", func(tx backend.ReadTx, keys tenant) error {
		page = nil
		pairs, err := tx.GetRange(rest, backend.RangeOptions{Limit: maxLetters, Bytes: maxLetterBytes}).Get()
		if err != nil {
			return err
		}
		for _, pair := range pairs {
			stamp, ok := pair.Key.CutStamp(keys.dead())
			if !ok {
				continue // a row of a large letter
			}
			l, err := keys.letterOf(tx, stamp, pair.Value)
			if errors.Is(err, backend.ErrCorrupt) { // to be seen, and discarded
				l, err = letter{Item: pair.Value, Err: Error{Text: err.Error()}}, nil
			}
			if err != nil {
				return err
			}
			page = append(page, l.public(stamp))
		}
		return nil
	})
	return page, err
}

// DeadLetter returns the dead letter of this stamp, or ErrNotFound.
func (s *DServer[S]) DeadLetter(ctx context.Context, stamp backend.Versionstamp) (DeadLetter, error) {
	if err := s.check(ctx, "DeadLetter"); err != nil {
		return DeadLetter{}, err
	}
	var d DeadLetter
	err := s.read(ctx, "read a dead letter", func(tx backend.ReadTx, keys tenant) error {
		l, err := keys.findLetter(tx, stamp)
		d = l.public(stamp)
		return err
	})
	if err != nil {
		return DeadLetter{}, err
	}
	return d, nil
}

// Retry sends a dead letter's Message again, which may have been edited, and removes the letter, in one commit. The message
// goes to the end of the queue, or with Priority ahead of it; other options are refused. Nobody waits for its answer any
// more. It is ErrNotFound when the letter is gone, so of two Retries at once only one sends. A message that this program
// cannot read is sent as it is stored, for a consumer that can read it; to edit it, give it a Name.
func (s *DServer[S]) Retry(ctx context.Context, d DeadLetter, opts ...Option) error {
	_, err := s.Requeue(ctx, d, opts...)
	return err
}

// Requeue is Retry, and returns the stamp that names the message on the queue.
func (s *DServer[S]) Requeue(ctx context.Context, d DeadLetter, opts ...Option) (backend.Versionstamp, error) {
	how, err := options(opts)
	if err == nil && (how.once != "" || how.after != 0) {
		err = errors.New("dserver: Retry takes no option but Priority")
	}
	if err != nil {
		return backend.Versionstamp{}, err
	}
	var version backend.Future[backend.Versionstamp]
	if err := s.retry(ctx, d, how.lane(), &version); err != nil {
		return backend.Versionstamp{}, err
	}
	return version.Get() // its append was the only one
}

func (h handle) retry(ctx context.Context, d DeadLetter, lane queue.Lane, version *backend.Future[backend.Versionstamp]) error {
	item, err := h.retried(ctx, d.Message)
	if err != nil {
		return err
	}
	unread := bytes.Clone(d.Message.Body) // of one without a Name
	return h.change(ctx, "Retry", func(tx backend.Tx, keys tenant) error {
		l, err := keys.findLetter(tx, d.Stamp)
		if err != nil {
			return err
		}
		again := item
		if again == nil {
			again = l.Item
			if !bytes.Equal(again, unread) {
				return errNameless
			}
		}
		keys.removeLetter(tx, d.Stamp)
		setReady(tx, h.Ref())
		*version = tx.Version()
		return keys.queue().Push(tx, lane, again)
	})
}

var errNameless = errors.New("a message that was edited needs a Name")

// retried is what is pushed for a message; nil for one that could not be read.
func (h handle) retried(ctx context.Context, m Message) ([]byte, error) {
	if m.Name == "" {
		return nil, nil
	}
	message, _, err := h.prepare(ctx, "Retry", m, nil)
	if err != nil {
		return nil, err
	}
	return newEnvelope(message, "").encode(), nil
}

// Discard removes a dead letter. It is ErrNotFound when the letter is gone.
func (s *DServer[S]) Discard(ctx context.Context, d DeadLetter) error {
	return s.change(ctx, "Discard", func(tx backend.Tx, keys tenant) error {
		value, err := tx.Get(keys.dead().Stamp(d.Stamp)).Get()
		if err != nil {
			return err
		}
		if value == nil {
			return noLetter(d.Stamp)
		}
		keys.removeLetter(tx, d.Stamp)
		return nil
	})
}
