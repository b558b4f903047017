package main

import (
	"math/bits"
	"time"
)

// fineBits makes a bucket one 64th of its power of two wide, so a percentile is right to 1.6 %.
const fineBits = 6

// histogram counts durations. It is of fixed size, so that recording allocates nothing and does not show in what is
// measured.
type histogram struct {
	counts [(64 - fineBits) << fineBits]int64
	total  int64
}

// record counts one duration.
func (h *histogram) record(d time.Duration) {
	h.counts[bucket(uint64(max(d, 0)))]++
	h.total++
}

// add counts all that o counted.
func (h *histogram) add(o *histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
}

// percentile returns the duration that p percent of those recorded do not exceed; 0 when there are none.
func (h *histogram) percentile(p float64) time.Duration {
	rank := max(1, int64(p/100*float64(h.total)+0.5))
	for i, n := range h.counts {
		if rank -= n; rank <= 0 {
			return time.Duration(middle(i))
		}
	}
	return 0
}

// bucket numbers the buckets: exact below 2^fineBits, then 2^fineBits for each power of two.
func bucket(v uint64) int {
	if v < 1<<fineBits {
		return int(v)
	}
	shift := bits.Len64(v) - fineBits - 1
	return shift<<fineBits + int(v>>shift)
}

// middle is the value in the middle of a bucket.
func middle(i int) uint64 {
	if i < 2<<fineBits {
		return uint64(i)
	}
	shift := i>>fineBits - 1
	low := uint64(i-shift<<fineBits) << shift
	return low + 1<<shift/2
}
