package tenant

import (
	"time"

	"github.com/dserver-go/dserver/backend"
)

// A server that is paused handles nothing, until an operator resumes it. It is a record of the head, so that each turn knows
// it:
//
//  1. The record is written, with the row in the index of trouble, so that a server that somebody forgot is found. Its mark
//     stays: who finds that nothing can be handled takes it away, as that of a server that has halted.
//  2. Each turn that writes has the record as a conflict, and so has what is counted of a message that failed: what runs as the
//     server is paused is not committed. There is one exception: locked work that has begun may end, and is applied, as what
//     another system has done would otherwise be forgotten. No attempt of it begins any more; its lock is given up.
//  3. Resume clears the record, with what has halted, and sets the mark.
//
// | dies | what is left |
// |---|---|
// | before the commit of 1 or 3 | the server goes on, or stands, as before |
// | after it | it stands, whoever comes; or its mark leads consumers to it |

// Paused is the record of a server that an operator paused; zero when it is not. Its field names are part of the stored
// format.
type Paused struct {
	Since int64  `cbor:"since"`        // Unix milliseconds
	By    string `cbor:"by,omitempty"` // who did it
}

// Is reports whether there is such a record.
func (p Paused) Is() bool { return p != Paused{} }

// ReadPaused reads the record; a change before the commit is a conflict.
func (t Keys) ReadPaused(tx backend.Reader) (p Paused, err error) {
	value, err := tx.Get(t.Paused()).Get()
	if err == nil && value != nil {
		err = DecodeRecord(value, &p)
	}
	return p, err
}

// Pause is step 1.
func (t Keys) Pause(tx backend.Tx, by string) {
	tx.Set(t.Paused(), EncodeRecord(Paused{Since: max(1, time.Now().UnixMilli()), By: by}))
	t.setTrouble(tx)
}
