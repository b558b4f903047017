package dserver

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
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

// onceRecord is what is kept of a key. Its field names are part of the stored format.
type onceRecord struct {
	Word   string          `cbor:"word,omitempty"`   // names this use of the key; "" in records of older versions
	Sum    []byte          `cbor:"sum,omitempty"`    // of its message; nil in records of older versions, which take any
	Until  int64           `cbor:"until"`            // Unix milliseconds; a row of the index for another time is a killed server's
	Waited bool            `cbor:"waited,omitempty"` // its message did, until the time was up: the outcome gets a time of its own
	Later  bool            `cbor:"later,omitempty"`  // the message was consumed, and its call is answered later
	Done   bool            `cbor:"done"`
	Body   cbor.RawMessage `cbor:"body,omitempty"`
	Err    *Error          `cbor:"error,omitempty"`
}

func (r onceRecord) encode() []byte {
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
func (t tenant) keepOnce(tx backend.Tx, ref Ref, key string, r onceRecord, after time.Duration) error {
	r.Until = dueIn(onceKept + after)
	setDue(tx, ref, due{At: r.Until, Kind: dueOnce, Name: key})
	return setLarge(tx, t.once(key), encodeRecord(r))
}

// expire ends a key whose time has come, unless its message waits, or did until a short while ago.
func (d due) expire(tx backend.Tx, ref Ref, record []byte) error {
	keys := tenantOf(ref)
	var r onceRecord
	if record == nil {
		return nil
	}
	switch err := decodeRecord(record, &r); {
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
	tx.Clear(keys.once(d.Name).Tree())
	return nil
}

// onceReads is the records of the keys that a transaction concludes. They are read together.
type onceReads map[string]largeRead

// start begins to read the record of a message's key, if it has one.
func (o *onceReads) start(tx backend.Reader, keys tenant, env envelope) {
	if env.Once == "" {
		return
	}
	if *o == nil {
		*o = onceReads{}
	}
	(*o)[env.Once] = readLarge(tx, keys.once(env.Once))
}

// conclude records the outcome of a message that is consumed. A key that expired meanwhile stays forgotten: nothing
// would ever remove its record.
func (o onceReads) conclude(tx backend.Tx, keys tenant, r result) error {
	if r.envelope.Once == "" {
		return nil
	}
	outcome := onceRecord{Word: r.envelope.Word, Later: r.later, Done: !r.later, Body: r.reply, Err: r.err}
	err := conclude(tx, keys.once(r.envelope.Once), o[r.envelope.Once], outcome)
	if errors.Is(err, backend.ErrCorrupt) { // it stops no message, and is replaced
		return setLarge(tx, keys.once(r.envelope.Once), encodeRecord(outcome))
	}
	return err
}

// conclude writes an outcome over the record of its word, unless it has one.
func conclude(tx backend.Tx, key backend.Key, known largeRead, outcome onceRecord) error {
	var r onceRecord
	value, err := known.get()
	if err == nil && value != nil {
		err = decodeRecord(value, &r)
	}
	if err != nil || value == nil || r.Done || r.Word != outcome.Word {
		return err
	}
	outcome.Sum, outcome.Until, outcome.Waited = r.Sum, r.Until, r.Waited
	return setLarge(tx, key, encodeRecord(outcome))
}

// keyMarker separates the address of a caller from the key that its call was sent with.
const keyMarker = "/"

// onceAddress is a key where it is kept. A From carries it, so that whoever answers concludes the key as well.
type onceAddress struct {
	ref  Ref
	key  string
	word string
}

func (o onceAddress) String() string {
	return hex.EncodeToString(encodeRecord([]string{o.ref.Type, o.ref.ID, o.key, o.word}))
}

// parseOnce finds the key in the address of a caller.
func parseOnce(from string) (o onceAddress, ok bool) {
	_, text, ok := strings.Cut(from, keyMarker)
	if !ok {
		return o, false
	}
	var parts []string
	b, err := hex.DecodeString(text)
	if err != nil || decodeRecord(b, &parts) != nil || len(parts) < 3 || len(parts) > 4 {
		return o, false
	}
	parts = append(parts, "") // older versions have no word, as their records
	return onceAddress{Ref{parts[0], parts[1]}, parts[2], parts[3]}, true
}

// deferredOutcome is the outcome of a call with a key that is answered later.
type deferredOutcome struct {
	answer
	at    onceAddress
	known largeRead
}

// lookOutcomes reads what is known of the keys that answers conclude. The first answer counts.
func lookOutcomes(tx backend.Reader, answers []answer) (outcomes []deferredOutcome) {
	seen := map[onceAddress]bool{}
	for _, a := range answers {
		at, ok := parseOnce(a.to)
		if !ok || seen[at] {
			continue
		}
		seen[at] = true
		outcomes = append(outcomes, deferredOutcome{a, at, readLarge(tx, tenantOf(at.ref).once(at.key))})
	}
	return outcomes
}

// write concludes the key, unless it is concluded, forgotten, or not the address's any more.
func (o deferredOutcome) write(tx backend.Tx) error {
	outcome := onceRecord{Word: o.at.word, Done: true, Body: o.reply, Err: o.err}
	err := conclude(tx, tenantOf(o.at.ref).once(o.at.key), o.known, outcome)
	if errors.Is(err, backend.ErrCorrupt) { // whose it was cannot be told
		return nil
	}
	return err
}

// awaitOnce waits for the outcome of the message that was sent first with a key, of whose record this is the word.
func (h handle) awaitOnce(ctx context.Context, p *process, key, word string) (reply []byte, err error) {
	for {
		record, watch, err := h.lookOnce(ctx, key, word)
		if err != nil {
			return nil, err
		}
		if record.Done {
			watch.Cancel()
			if record.Err != nil {
				return nil, record.Err
			}
			return record.Body, nil
		}
		timer := time.NewTimer(p.jittered(lookInterval))
		select {
		case <-watch.Done():
		case <-timer.C:
		case <-ctx.Done():
			err = fmt.Errorf("dserver: wait for the first message with key %q: %w", key, ctx.Err())
		}
		timer.Stop()
		watch.Cancel()
		if err != nil {
			return nil, err
		}
	}
}

// lookOnce reads the record of a word.
func (h handle) lookOnce(ctx context.Context, key, word string) (onceRecord, backend.Watch, error) {
	var record onceRecord
	var watch backend.Watch
	at := tenantOf(h.Ref()).once(key)
	err := h.db.Read(ctx, func(tx backend.ReadTx) error {
		record = onceRecord{}
		watch = tx.Watch(at)
		value, err := readLarge(tx, at).get()
		if err != nil {
			return err
		}
		if value != nil {
			err = decodeRecord(value, &record)
		}
		if err == nil && (value == nil || record.Word != word) {
			err = because(ErrKilled, "the record of key %q is gone with its server, or after its time", key)
		}
		return err
	})
	if err != nil {
		return record, nil, fmt.Errorf("dserver: %v: %w", h.Ref(), err)
	}
	return record, watch, nil
}
