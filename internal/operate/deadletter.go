package operate

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// DeadLetter is a message that failed for good or was refused, and why.
type DeadLetter struct {
	Stamp    backend.Versionstamp // when it was pushed, in commit order; names it
	Message  tenant.Message       // without a Name when it cannot be read: then Body is all that is stored
	Headers  tenant.Headers
	Err      tenant.Error
	Stack    string // of a panic; of a message that could not be decoded, why
	Attempts int
	Since    time.Time // when it became a dead letter, by the clock of the consumer
}

func letterOf(stamp backend.Versionstamp, l tenant.Letter) DeadLetter {
	message, env := tenant.Readable(l.Item)
	return DeadLetter{
		Stamp: stamp, Message: message, Headers: env.Head, Err: l.Err, Stack: l.Stack, Attempts: l.Attempts,
		Since: time.UnixMilli(l.Since),
	}
}

// What is read of dead letters from one snapshot.
const (
	maxLetters     = 100
	maxLetterBytes = 1 << 20
)

// DeadLetters yields the server's dead letters, oldest first. It reads page by page.
func (s Server) DeadLetters(ctx context.Context) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		for rest := tenant.KeysOf(s.Ref).Dead().Below(); ; {
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
			rest = rest.After(tenant.KeysOf(s.Ref).Dead().Stamp(page[len(page)-1].Stamp))
		}
	}
}

// letters reads the first letters of a range. Rows of a large one count as well, so that a page stays small.
func (s Server) letters(ctx context.Context, rest backend.Range) (page []DeadLetter, err error) {
	err = s.read(ctx, "read the dead letters", func(tx backend.ReadTx, keys tenant.Keys) error {
		page = nil
		pairs, err := tx.GetRange(rest, backend.RangeOptions{Limit: maxLetters, Bytes: maxLetterBytes}).Get()
		if err != nil {
			return err
		}
		for _, pair := range pairs {
			stamp, ok := pair.Key.CutStamp(keys.Dead())
			if !ok {
				continue // a row of a large letter
			}
			l, err := keys.LetterOf(tx, stamp, pair.Value)
			if errors.Is(err, backend.ErrCorrupt) { // to be seen, and discarded
				l, err = tenant.Letter{Item: pair.Value, Err: tenant.Error{Text: err.Error()}}, nil
			}
			if err != nil {
				return err
			}
			page = append(page, letterOf(stamp, l))
		}
		return nil
	})
	return page, err
}

// DeadLetter returns the dead letter of a stamp, or ErrNotFound.
func (s Server) DeadLetter(ctx context.Context, stamp backend.Versionstamp) (d DeadLetter, err error) {
	err = s.read(ctx, "read a dead letter", func(tx backend.ReadTx, keys tenant.Keys) error {
		l, err := keys.FindLetter(tx, stamp)
		d = letterOf(stamp, l)
		return err
	})
	return d, err
}

// Retry sends a message again, in place of a dead letter. One without a name is sent as it is stored, with the headers that it
// has. It returns the stamp that names it on the queue.
func (s Server) Retry(ctx context.Context, stamp backend.Versionstamp, m tenant.Message, head tenant.Headers, lane queue.Lane) (backend.Versionstamp, error) {
	var item []byte
	if m.Name != "" {
		env := tenant.NewEnvelope(m, "")
		env.Head = head
		item = env.Encode()
	}
	unread := bytes.Clone(m.Body) // of one without a Name
	var version backend.Future[backend.Versionstamp]
	err := s.change(ctx, "Retry", func(tx backend.Tx, keys tenant.Keys, act *tenant.Act) error {
		l, err := keys.FindLetter(tx, stamp)
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
		was, _ := tenant.Readable(l.Item)
		is, _ := tenant.Readable(again)
		act.Stamp, act.Before, act.After = stamp, tenant.KeepMessage(was), tenant.KeepMessage(is)
		keys.RemoveLetter(tx, stamp)
		tenant.SetReady(tx, s.Ref)
		version = tx.Version()
		return keys.Queue().Push(tx, lane, again)
	})
	if err != nil {
		return backend.Versionstamp{}, err
	}
	return version.Get() // its append was the only one
}

var errNameless = errors.New("a message that was edited needs a Name")

// Discard removes a dead letter. It is ErrNotFound when the letter is gone.
func (s Server) Discard(ctx context.Context, stamp backend.Versionstamp) error {
	return s.change(ctx, "Discard", func(tx backend.Tx, keys tenant.Keys, act *tenant.Act) error {
		l, err := keys.FindLetter(tx, stamp)
		if err != nil && !errors.Is(err, backend.ErrCorrupt) { // one that is damaged is discarded as well
			return err
		}
		was, _ := tenant.Readable(l.Item)
		act.Stamp, act.Before = stamp, tenant.KeepMessage(was)
		keys.RemoveLetter(tx, stamp)
		return nil
	})
}
