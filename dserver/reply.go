package dserver

import (
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

// mail is an answer in a mailbox. Its field names are part of the stored format.
type mail struct {
	Call uint64          `cbor:"call"`
	Body cbor.RawMessage `cbor:"body,omitempty"`
	Err  *Error          `cbor:"error,omitempty"`
}

func (m mail) encode() []byte {
	b := wire.AppendMap(make([]byte, 0, len(m.Body)+64), 1+count(len(m.Body) > 0, m.Err != nil))
	b = wire.AppendUint(wire.AppendText(b, "call"), m.Call)
	return appendError(appendBody(b, m.Body), m.Err)
}

// readMail reads an answer. One that cannot be read, as another version or somebody else wrote it, is an error to its
// caller, whose call is all that is asked of it then; known tells whether that is there.
func readMail(b []byte) (d delivery, known bool, err error) {
	var m mail
	if err = decodeRecord(b, &m); err == nil {
		d = delivery{call: m.Call, reply: m.Body}
		if m.Err != nil {
			d.err = m.Err
		}
		return d, true, nil
	}
	var address struct {
		Call uint64 `cbor:"call"`
	}
	d.err = because(ErrReplyLost, "the answer cannot be read, as another version of the program or somebody else wrote it: %v", err)
	if wire.Salvage(b, &address) == nil {
		d.call = address.Call
	}
	return d, address.Call != 0, err
}

// delivery is an answer to a call of this process.
type delivery struct {
	call  uint64
	reply []byte
	err   error
}

func address(process string, call uint64) string {
	return process + "." + strconv.FormatUint(call, 36)
}

func parseAddress(from string) (process string, call uint64, err error) {
	from, _, _ = strings.Cut(from, keyMarker)
	process, number, ok := strings.Cut(from, ".")
	if ok {
		call, err = strconv.ParseUint(number, 36, 64)
	}
	if !ok || err != nil {
		return "", 0, fmt.Errorf("dserver: %q is no address of a caller", from)
	}
	return process, call, nil
}

// answers is what the caller of a message is told, if there is one and nobody else tells it.
func (r result) answers() []answer {
	if r.later || r.envelope.From == "" {
		return nil
	}
	return []answer{{to: r.envelope.From, reply: r.reply, err: r.err}}
}

// outbox is the answers of a turn to other processes, by process.
type outbox map[string][]mail

// add sorts answers: it returns those to this process.
func (o *outbox) add(self string, answers []answer) (mine []delivery) {
	for _, a := range answers {
		process, call, err := parseAddress(a.to)
		switch {
		case err != nil: // nobody who could be told
		case process == self:
			d := delivery{call: call, reply: a.reply}
			if a.err != nil {
				d.err = a.err
			}
			mine = append(mine, d)
		default:
			if *o == nil {
				*o = outbox{}
			}
			(*o)[process] = append((*o)[process], mail{call, a.reply, a.err})
		}
	}
	return mine
}

// dropGone leaves out the processes that have no record any more. Their keys are reads, so a sweep that removes one
// meanwhile is a conflict. One that isThere knows of is not read.
func (o outbox) dropGone(tx backend.Reader, isThere func(process string) bool) error {
	if len(o) == 0 {
		return nil
	}
	records := make(map[string]backend.Future[[]byte], len(o))
	for process := range o {
		if isThere == nil || !isThere(process) {
			records[process] = tx.Get(presenceOf(process).record())
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

// write puts the answers into the mailboxes.
func (o outbox) write(tx backend.Tx) error {
	for process, letters := range o {
		p := presenceOf(process)
		items := make([][]byte, len(letters))
		for i, m := range letters {
			items[i] = encodeRecord(m)
		}
		if err := p.mail().Push(tx, queue.Normal, items...); err != nil {
			return err
		}
		tx.Add(p.bell(), 1)
	}
	return nil
}
