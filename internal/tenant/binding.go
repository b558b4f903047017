package tenant

import (
	"crypto/sha256"
	"encoding/binary"
)

// An idempotency key is bound to what was sent with it: the names of the messages and their bodies. A message is always
// encoded to the same bytes, also one with maps, but by methods of its own that do otherwise. How it is sent, After or
// Priority, is no part of the binding, nor are its headers: the trace in them is another one each time it is sent.

// sumBytes is how much of a sum is kept.
const sumBytes = 16

// sumOf is what a key is bound to that is sent with these messages.
func sumOf(envelopes []Envelope) []byte {
	h := sha256.New()
	for _, e := range envelopes {
		for _, part := range [][]byte{[]byte(e.Name), e.Body} {
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
			h.Write(part)
		}
	}
	return h.Sum(nil)[:sumBytes]
}
