package dserver

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"slices"
)

// An idempotency key is bound to what was sent with it: the names of the messages and their bodies. Go encodes the
// pairs of a map in any order, so a body is summed as CBOR, where that order does not count. How it is sent, After or
// Priority, is no part of the binding.

// sumBytes is how much of a sum is kept.
const sumBytes = 16

// sumOf is what a key is bound to that is sent with these messages.
func sumOf(envelopes []envelope) []byte {
	h := sha256.New()
	for _, e := range envelopes {
		name, body := sha256.Sum256([]byte(e.Name)), sumOfBody(e.Body)
		h.Write(name[:])
		h.Write(body)
	}
	return h.Sum(nil)[:sumBytes]
}

// sumOfBody sums CBOR. What is none, or is nested too deeply, is summed as bytes.
func sumOfBody(body []byte) []byte {
	h := sha256.New()
	if rest, err := sumItem(h, body, maxSumDepth); err != nil || len(rest) > 0 {
		h.Reset()
		h.Write(body)
	}
	return h.Sum(nil)
}

// maxSumDepth is deeper than what a message may be.
const maxSumDepth = 300

// The major types of CBOR that hold something, and what a head says beside its argument.
const (
	cborBytes = 2
	cborText  = 3
	cborArray = 4
	cborMap   = 5
	cborTag   = 6

	cborIndefinite = 31
	cborBreak      = 0xff
)

var errNotSummed = errors.New("dserver: not summed")

// sumItem adds the item with which b begins, and returns what follows it.
func sumItem(h hash.Hash, b []byte, depth int) (rest []byte, err error) {
	major, argument, size, err := cborHead(b)
	if err != nil || depth == 0 {
		return nil, errNotSummed
	}
	h.Write(b[:size])
	isOpen := b[0]&31 == cborIndefinite
	b = b[size:]
	switch major {
	case cborBytes, cborText:
		if !isOpen {
			return sumBytesOf(h, b, argument)
		}
		return sumItems(h, b, 0, isOpen, depth)
	case cborArray:
		return sumItems(h, b, argument, isOpen, depth)
	case cborMap:
		return sumPairs(h, b, argument, isOpen, depth)
	case cborTag:
		return sumItem(h, b, depth-1)
	}
	return b, nil
}

// cborHead reads the first bytes of an item: its kind, and the number beside it.
func cborHead(b []byte) (major byte, argument uint64, size int, err error) {
	if len(b) == 0 {
		return 0, 0, 0, errNotSummed
	}
	info := b[0] & 31
	if info < 24 || info == cborIndefinite {
		return b[0] >> 5, uint64(info), 1, nil
	}
	n := 1 << (info - 24)
	if info > 27 || len(b) < 1+n {
		return 0, 0, 0, errNotSummed
	}
	var number [8]byte
	copy(number[8-n:], b[1:1+n])
	return b[0] >> 5, binary.BigEndian.Uint64(number[:]), 1 + n, nil
}

func sumBytesOf(h hash.Hash, b []byte, n uint64) ([]byte, error) {
	if n > uint64(len(b)) {
		return nil, errNotSummed
	}
	h.Write(b[:n])
	return b[n:], nil
}

// sumItems adds n items, or all until a break.
func sumItems(h hash.Hash, b []byte, n uint64, isOpen bool, depth int) (rest []byte, err error) {
	for i := uint64(0); isOpen || i < n; i++ {
		if rest, ok := cutBreak(b, isOpen); ok {
			h.Write([]byte{cborBreak})
			return rest, nil
		}
		if b, err = sumItem(h, b, depth-1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// sumPairs adds the pairs of a map in the order of their sums.
func sumPairs(h hash.Hash, b []byte, n uint64, isOpen bool, depth int) (rest []byte, err error) {
	var sums [][]byte
	pair := sha256.New()
	for i := uint64(0); isOpen || i < n; i++ {
		var ended bool
		if b, ended = cutBreak(b, isOpen); ended {
			break
		}
		pair.Reset()
		if b, err = sumItems(pair, b, 2, false, depth); err != nil {
			return nil, err
		}
		sums = append(sums, pair.Sum(nil))
	}
	slices.SortFunc(sums, bytes.Compare)
	for _, sum := range sums {
		h.Write(sum)
	}
	return b, nil
}

// cutBreak cuts the end of an item of no definite length.
func cutBreak(b []byte, isOpen bool) (rest []byte, ended bool) {
	if isOpen && len(b) > 0 && b[0] == cborBreak {
		return b[1:], true
	}
	return b, false
}
