package tenant

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/wire"
	"github.com/dserver-go/dserver/queue"
)

// A queued call carries the address of its caller: a process and a number. The turn that handles it writes the answer
// to the mailbox of that process, in its commit, if the process still has a record. Where caller and consumer are one
// process the answer needs no store: it goes through memory after the commit, and dies only with its caller.

// Mail is an answer in a mailbox. Its field names are part of the stored format.
type Mail struct {
	Call uint64          `cbor:"call"`
	Body cbor.RawMessage `cbor:"body,omitempty"`
	Err  *Error          `cbor:"error,omitempty"`
}

// Answers of a turn to one process are bundles: items of its mailbox that are CBOR arrays of mails, as bytes, so that one that
// cannot be read takes no other with it. An item costs a store more than what is in it. A mail that stands alone is an item as
// it is, and so is each for a process of before there were bundles, which the name of a process tells.
const (
	readsBundles = "8"      // which other words have not
	bundleBytes  = 16 << 10 // of the mails of one item
)

// NewProcessID names a process that reads bundles.
func NewProcessID() string { return rand.Text()[len(readsBundles):] + readsBundles }

// bundled makes items for a process.
func bundled(process string, letters []Mail) (items [][]byte) {
	for _, m := range letters {
		items = append(items, m.Encode())
	}
	if !strings.HasSuffix(process, readsBundles) {
		return items
	}
	return bundles(items)
}

func bundles(letters [][]byte) (items [][]byte) {
	for len(letters) > 0 {
		n, size := 1, len(letters[0])
		for n < len(letters) && size+len(letters[n]) <= bundleBytes {
			size += len(letters[n])
			n++
		}
		item := letters[0]
		if n > 1 {
			item = wire.AppendHead(make([]byte, 0, size+4*n), majorArray, uint64(n))
			for _, l := range letters[:n] {
				item = wire.AppendBytes(item, l)
			}
		}
		items, letters = append(items, item), letters[n:]
	}
	return items
}

const majorArray = 0x80

// Unbundle is the mails of an item, each of which may be one that cannot be read.
func Unbundle(item []byte) [][]byte {
	var letters [][]byte
	if len(item) == 0 || item[0]&0xe0 != majorArray || DecodeRecord(item, &letters) != nil || len(letters) == 0 {
		return [][]byte{item}
	}
	return letters
}

// Encode is an appender's.
func (m Mail) Encode() []byte {
	b := wire.AppendMap(make([]byte, 0, len(m.Body)+64), 1+count(len(m.Body) > 0, m.Err != nil))
	b = wire.AppendUint(wire.AppendText(b, "call"), m.Call)
	return appendError(appendBody(b, m.Body), m.Err)
}

// ReadMail reads an answer. One that cannot be read, as another version or somebody else wrote it, is an error to its
// caller, whose call is all that is asked of it then; known tells whether that is there.
func ReadMail(b []byte) (d Delivery, known bool, err error) {
	var m Mail
	if err = DecodeRecord(b, &m); err == nil {
		d = Delivery{Call: m.Call, Reply: m.Body}
		if m.Err != nil {
			d.Err = m.Err
		}
		return d, true, nil
	}
	var address struct {
		Call uint64 `cbor:"call"`
	}
	d.Err = Because(ErrReplyLost, "the answer cannot be read, as another version of the program or somebody else wrote it: %v", err)
	if wire.Salvage(b, &address) == nil {
		d.Call = address.Call
	}
	return d, address.Call != 0, err
}

// Delivery is an answer to a call of this process.
type Delivery struct {
	Call  uint64
	Reply []byte
	Err   error
}

// Address is where the answer to a call goes.
func Address(process string, call uint64) string {
	return process + "." + strconv.FormatUint(call, 36)
}

func parseAddress(from string) (process string, call uint64, err error) {
	from, _, _ = strings.Cut(from, KeyMarker)
	process, number, ok := strings.Cut(from, ".")
	if ok {
		call, err = strconv.ParseUint(number, 36, 64)
	}
	if !ok || err != nil {
		return "", 0, fmt.Errorf("dserver: %q is no address of a caller", from)
	}
	return process, call, nil
}

// Conclusion is what became of a message that was consumed.
type Conclusion struct {
	Envelope
	Reply []byte
	Err   *Error // refused, or kept
	Later bool   // it is answered by somebody else
}

// Answers is what the caller of a message is told, if there is one and nobody else tells it.
func (c Conclusion) Answers() []Answer {
	if c.Later || c.From == "" {
		return nil
	}
	return []Answer{{To: c.From, Reply: c.Reply, Err: c.Err}}
}

// Outbox is the answers of a turn to other processes, by process.
type Outbox map[string][]Mail

// Add sorts answers: it returns those to this process.
func (o *Outbox) Add(self string, answers []Answer) (mine []Delivery) {
	for _, a := range answers {
		process, call, err := parseAddress(a.To)
		switch {
		case err != nil: // nobody who could be told
		case process == self:
			d := Delivery{Call: call, Reply: a.Reply}
			if a.Err != nil {
				d.Err = a.Err
			}
			mine = append(mine, d)
		default:
			if *o == nil {
				*o = Outbox{}
			}
			(*o)[process] = append((*o)[process], Mail{call, a.Reply, a.Err})
		}
	}
	return mine
}

// DropGone leaves out the processes that have no record any more. Their keys are reads, so a sweep that removes one
// meanwhile is a conflict. One that isThere knows of is not read.
func (o Outbox) DropGone(tx backend.Reader, isThere func(process string) bool) error {
	if len(o) == 0 {
		return nil
	}
	records := make(map[string]backend.Future[[]byte], len(o))
	for process := range o {
		if isThere == nil || !isThere(process) {
			records[process] = tx.Get(PresenceOf(process).Record())
		}
	}
	for process, record := range records {
		value, err := record.Get()
		if err != nil {
			return err
		}
		if value == nil {
			delete(o, process)
		}
	}
	return nil
}

// Write puts the answers into the mailboxes.
func (o Outbox) Write(tx backend.Tx) error {
	for process, letters := range o {
		p := PresenceOf(process)
		if err := p.Mail().Push(tx, queue.Normal, bundled(process, letters)...); err != nil {
			return err
		}
		tx.Add(p.Bell(), 1)
	}
	return nil
}

// Answer is a reply to an address.
type Answer struct {
	To    string
	Reply []byte
	Err   *Error
}
