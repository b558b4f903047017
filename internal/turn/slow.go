package turn

import (
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/statediff"
)

// A turn reads all of a state that is not in the cache, decodes it for its handlers, and compares it with what is stored
// when they have returned. A state that is too large for that in a turn's time is no fault of a handler, and errors tell
// it apart.

// doing is what takes the time of a batch.
type doing int32

const (
	handling  doing = iota // a handler, or what is like one
	comparing              // the state with what is stored
	rereading              // the state, after a message that failed
)

func (d doing) String() string {
	return [...]string{"handling a message", "comparing the state with what is stored", "reading the state again"}[d]
}

// stateSize is how large a state is, as it is stored.
type stateSize struct {
	rows  int
	bytes int64
}

func sizeOf(rows *statediff.Rows) stateSize {
	return stateSize{rows.Len(), rows.Bytes()}
}

// largeState is from what size on a state that is slow is so by its size.
const largeState = 1 << 20

// String says what to do about it, too.
func (s stateSize) String() string {
	text := fmt.Sprintf("the state has %d rows, which take %.1f MB of memory", s.rows, float64(s.bytes)/1e6)
	if s.bytes >= largeState {
		text += ": keep a large collection in a statediff.Map or statediff.List, of which a turn loads and compares what it touches"
	}
	return text
}

// OverrunText says what did not come to its end in a turn's time.
func (b *Batch) OverrunText() string {
	if does := doing(b.does.Load()); does != handling {
		return fmt.Sprintf("the handler returned, and %v was not done within %v: %v", does, b.limit(), b.size)
	}
	return fmt.Sprintf("the handler did not return within %v", b.limit())
}

// slowLoad is what of a turn's time a state may take to be loaded, without being told as what made it too long.
const slowLoad = backend.MaxDuration / 5

// TooOld adds to an error of a transaction that took too long that it was the state, if it was.
func (t *Turn) TooOld(err error) error {
	if !errors.Is(err, backend.ErrTooOld) || t.loaded < slowLoad {
		return err
	}
	err = fmt.Errorf("%w: of that, loading the state took %v", err, t.loaded.Round(time.Millisecond))
	if rows := t.Memory.State.Rows; rows != nil { // else it has not come so far
		err = fmt.Errorf("%w: %v", err, sizeOf(rows))
	}
	return err
}
