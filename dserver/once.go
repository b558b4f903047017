package dserver

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/backend"
)

// Idempotency keys. The first push with a key writes a record under it, in its commit, and the turn that consumes the
// message writes the outcome there, in its own. A later push reads the record, so of two at once one conflicts: it
// then finds the other's, sends nothing, and a call waits for the outcome. The index of what is due removes the record
// after onceKept.

// onceKept is how long a key is remembered after its message was first queued.
const onceKept = 24 * time.Hour

// onceRecord is what is kept of a key. Its field names are part of the stored format.
type onceRecord struct {
	Done bool            `cbor:"done"`
	Body cbor.RawMessage `cbor:"body,omitempty"`
	Err  *Error          `cbor:"error,omitempty"`
}

// expectOnce records that a message with this key was sent, to be queued after a while.
func (t tenant) expectOnce(tx backend.Tx, ref Ref, key string, after time.Duration) error {
	setDue(tx, ref, due{At: dueIn(onceKept + max(0, after)), Kind: dueOnce, Name: key})
	return setLarge(tx, t.once(key), encodeRecord(onceRecord{}))
}

// concludeOnce records the outcome of a message that is consumed. A key that expired meanwhile stays forgotten: nothing
// would ever remove its record.
func (t tenant) concludeOnce(tx backend.Tx, r result) error {
	if r.envelope.Once == "" {
		return nil
	}
	key := t.once(r.envelope.Once)
	known, err := tx.Get(key).Get()
	if err != nil || known == nil {
		return err
	}
	return setLarge(tx, key, encodeRecord(onceRecord{Done: true, Body: r.reply, Err: r.err}))
}

// keyMarker separates the address of a caller from the key that its call was sent with.
const keyMarker = "/"

// onceAddress is a key where it is kept. A From carries it, so that whoever answers concludes the key as well.
type onceAddress struct {
	ref Ref
	key string
}

func (o onceAddress) String() string {
	return hex.EncodeToString(encodeRecord([]string{o.ref.Type, o.ref.ID, o.key}))
}

// parseOnce finds the key in the address of a caller.
func parseOnce(from string) (o onceAddress, ok bool) {
	_, text, ok := strings.Cut(from, keyMarker)
	if !ok {
		return o, false
	}
	var parts []string
	b, err := hex.DecodeString(text)
	if err != nil || decodeRecord(b, &parts) != nil || len(parts) != 3 {
		return o, false
	}
	return onceAddress{Ref{parts[0], parts[1]}, parts[2]}, true
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

// write concludes the key, unless it is concluded or forgotten.
func (o deferredOutcome) write(tx backend.Tx) error {
	value, err := o.known.get()
	if err != nil || value == nil {
		return err
	}
	var r onceRecord
	if err := decodeRecord(value, &r); err != nil || r.Done {
		return err
	}
	return setLarge(tx, tenantOf(o.at.ref).once(o.at.key), encodeRecord(onceRecord{Done: true, Body: o.reply, Err: o.err}))
}

// awaitOnce waits for the outcome of the message that was sent first with a key.
func (h handle) awaitOnce(ctx context.Context, key string) (reply []byte, err error) {
	for {
		record, watch, err := h.lookOnce(ctx, key)
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
		timer := time.NewTimer(jittered(lookInterval))
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

func (h handle) lookOnce(ctx context.Context, key string) (onceRecord, backend.Watch, error) {
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
		if value == nil {
			return because(ErrKilled, "the record of key %q is gone with its server", key)
		}
		return decodeRecord(value, &record)
	})
	if err != nil {
		return record, nil, fmt.Errorf("dserver: %v: %w", h.Ref(), err)
	}
	return record, watch, nil
}
