package tenant

import (
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/wire"
)

// Idempotency keys. The first push with a key writes a record under it, in its commit, and the turn that consumes the
// message writes the outcome there, in its own. A later push reads the record, so of two at once one conflicts: it
// then finds the other's, sends nothing, and a call waits for the outcome. The index of what is due removes the record
// after onceKept, and not while its message waits: else the key would be new again, and the message handled twice.
//
// A record is bound to its message (binding.go), and named by a random word, which the message has and the addresses of
// its callers (From). Only who has the word concludes the key: not the answer of a life before a kill, nor an address
// that a handler made up. And who waits for the outcome of one record does not get another's.

// onceKept is how long a key is remembered after its message was first queued, and how often is looked whether a
// message waits still.
const onceKept = 24 * time.Hour

// OnceRecord is what is kept of a key. Its field names are part of the stored format.
type OnceRecord struct {
	Word   string          `cbor:"word,omitempty"`   // names this use of the key; "" in records of older versions
	Sum    []byte          `cbor:"sum,omitempty"`    // of its message; nil in records of older versions, which take any
	Until  int64           `cbor:"until"`            // Unix milliseconds; a row of the index for another time is a killed server's
	Waited bool            `cbor:"waited,omitempty"` // its message did, until the time was up: the outcome gets a time of its own
	Later  bool            `cbor:"later,omitempty"`  // the message was consumed, and its call is answered later
	Done   bool            `cbor:"done"`
	Body   cbor.RawMessage `cbor:"body,omitempty"`
	Err    *Error          `cbor:"error,omitempty"`
}

// Encode is an appender's.
func (r OnceRecord) Encode() []byte {
	b := wire.AppendMap(make([]byte, 0, len(r.Body)+128),
		2+count(r.Word != "", len(r.Sum) > 0, r.Waited, r.Later, len(r.Body) > 0, r.Err != nil))
	b = appendText(b, "word", r.Word)
	if len(r.Sum) > 0 {
		b = wire.AppendBytes(wire.AppendText(b, "sum"), r.Sum)
	}
	b = wire.AppendInt(wire.AppendText(b, "until"), r.Until)
	b = appendIf(b, "waited", r.Waited)
	b = appendIf(b, "later", r.Later)
	b = wire.AppendBool(wire.AppendText(b, "done"), r.Done)
	return appendError(appendBody(b, r.Body), r.Err)
}

// keepOnce keeps a record for onceKept, which begins after a while.
func (t Keys) keepOnce(tx backend.Tx, ref Ref, key string, r OnceRecord, after time.Duration) error {
	r.Until = dueIn(onceKept + after)
	SetDue(tx, ref, Due{At: r.Until, Kind: DueOnce, Name: key})
	return SetLarge(tx, t.Once(key), EncodeRecord(r))
}

// expire ends a key whose time has come, unless its message waits, or did until a short while ago.
func (d Due) expire(tx backend.Tx, ref Ref, record []byte) error {
	keys := KeysOf(ref)
	var r OnceRecord
	if record == nil {
		return nil
	}
	switch err := DecodeRecord(record, &r); {
	case err != nil:
		return err
	case r.Until != 0 && r.Until != d.At:
		return nil
	}
	waits := !r.Done && !r.Later
	if waits || r.Waited {
		r.Waited = waits
		return keys.keepOnce(tx, ref, d.Name, r, 0)
	}
	tx.Clear(keys.Once(d.Name).Tree())
	return nil
}

// OnceReads is the records of the keys that a transaction concludes. They are read together.
type OnceReads map[string]LargeRead

// Start begins to read the record of a message's key, if it has one.
func (o *OnceReads) Start(tx backend.Reader, keys Keys, env Envelope) {
	if env.Once == "" {
		return
	}
	if *o == nil {
		*o = OnceReads{}
	}
	(*o)[env.Once] = ReadLarge(tx, keys.Once(env.Once))
}

// Conclude records the outcome of a message that is consumed. A key that expired meanwhile stays forgotten: nothing
// would ever remove its record.
func (o OnceReads) Conclude(tx backend.Tx, keys Keys, c Conclusion) error {
	if c.Once == "" {
		return nil
	}
	outcome := OnceRecord{Word: c.Word, Later: c.Later, Done: !c.Later, Body: c.Reply, Err: c.Err}
	err := conclude(tx, keys.Once(c.Once), o[c.Once], outcome)
	if errors.Is(err, backend.ErrCorrupt) { // it stops no message, and is replaced
		return SetLarge(tx, keys.Once(c.Once), EncodeRecord(outcome))
	}
	return err
}

// conclude writes an outcome over the record of its word, unless it has one.
func conclude(tx backend.Tx, key backend.Key, known LargeRead, outcome OnceRecord) error {
	var r OnceRecord
	value, err := known.Get()
	if err == nil && value != nil {
		err = DecodeRecord(value, &r)
	}
	if err != nil || value == nil || r.Done || r.Word != outcome.Word {
		return err
	}
	outcome.Sum, outcome.Until, outcome.Waited = r.Sum, r.Until, r.Waited
	return SetLarge(tx, key, EncodeRecord(outcome))
}

// KeyMarker separates the address of a caller from the key that its call was sent with.
const KeyMarker = "/"

// OnceAddress is a key where it is kept. A From carries it, so that whoever answers concludes the key as well.
type OnceAddress struct {
	Ref  Ref
	Key  string
	Word string
}

func (o OnceAddress) String() string {
	return hex.EncodeToString(EncodeRecord([]string{o.Ref.Type, o.Ref.ID, o.Key, o.Word}))
}

// parseOnce finds the key in the address of a caller.
func parseOnce(from string) (o OnceAddress, ok bool) {
	_, text, ok := strings.Cut(from, KeyMarker)
	if !ok {
		return o, false
	}
	var parts []string
	b, err := hex.DecodeString(text)
	if err != nil || DecodeRecord(b, &parts) != nil || len(parts) < 3 || len(parts) > 4 {
		return o, false
	}
	parts = append(parts, "") // older versions have no word, as their records
	return OnceAddress{Ref{parts[0], parts[1]}, parts[2], parts[3]}, true
}

// deferredOutcome is the outcome of a call with a key that is answered later.
type deferredOutcome struct {
	Answer
	at    OnceAddress
	known LargeRead
}

// LookOutcomes reads what is known of the keys that answers conclude. The first answer counts.
func LookOutcomes(tx backend.Reader, answers []Answer) (outcomes []deferredOutcome) {
	seen := map[OnceAddress]bool{}
	for _, a := range answers {
		at, ok := parseOnce(a.To)
		if !ok || seen[at] {
			continue
		}
		seen[at] = true
		outcomes = append(outcomes, deferredOutcome{a, at, ReadLarge(tx, KeysOf(at.Ref).Once(at.Key))})
	}
	return outcomes
}

// Write concludes the key, unless it is concluded, forgotten, or not the address's any more.
func (o deferredOutcome) Write(tx backend.Tx) error {
	outcome := OnceRecord{Word: o.at.Word, Done: true, Body: o.Reply, Err: o.Err}
	err := conclude(tx, KeysOf(o.at.Ref).Once(o.at.Key), o.known, outcome)
	if errors.Is(err, backend.ErrCorrupt) { // whose it was cannot be told
		return nil
	}
	return err
}
