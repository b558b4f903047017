package statediff

import (
	"hash/maphash"
	"slices"
	"unsafe"
)

// indexFrom is the number of rows from which Diff looks keys up by their hash. Below it a binary search is as fast. Tests set it,
// to 3 at least: there is a free slot in a table of 3 rows and more.
var indexFrom = 128

// index finds rows by the hash of their key: an open table of row numbers plus one. It costs at most 8 bytes a row,
// a Go map would cost 30, and it is built again after rows came or went, which costs less than the Diff that needs it.
// Beside it are the sums of the values that the rows are known to be, 8 bytes a row. A nil index has neither.
type index struct {
	slots []uint32 // nil: to be built again
	sums  []uint64 // by the number of the row, as far as they are known; 0: not
}

func (x *index) bytes() int64 {
	if x == nil {
		return 0
	}
	return int64(unsafe.Sizeof(*x)) + int64(cap(x.slots))*int64(unsafe.Sizeof(x.slots[0])) +
		int64(cap(x.sums))*int64(unsafe.Sizeof(x.sums[0]))
}

// build makes the table, if it is not there.
func (x *index) build(list []row) {
	if x.slots != nil {
		return
	}
	size := 1
	for size < len(list)+len(list)/3 {
		size *= 2
	}
	x.slots = make([]uint32, size)
	for i := range list {
		slot := maphash.String(sumSeed, list[i].key())
		for x.slots[slot&uint64(size-1)] != 0 {
			slot++
		}
		x.slots[slot&uint64(size-1)] = uint32(i) + 1
	}
}

// find returns the number of the row with this key.
func (x *index) find(list []row, key []byte) (int, bool) {
	slot, mask := maphash.Bytes(sumSeed, key), uint64(len(x.slots)-1)
	for {
		n := x.slots[slot&mask]
		if n == 0 {
			return 0, false
		}
		if list[n-1].key() == string(key) {
			return int(n - 1), true
		}
		slot++
	}
}

// known returns the number of the row whose value has this sum, and whose key has this hash, on which the sum stands.
func (x *index) known(hash, sum uint64) (int, bool) {
	mask := uint64(len(x.slots) - 1)
	for slot := hash; ; slot++ {
		n := int(x.slots[slot&mask])
		if n == 0 {
			return 0, false
		}
		if n <= len(x.sums) && x.sums[n-1] == sum {
			return n - 1, true
		}
	}
}

// learn remembers the sum of row i, of n.
func (x *index) learn(i int, sum uint64, n int) {
	if x.sums == nil {
		x.sums = make([]uint64, n)
	}
	x.sums[i] = sum
}

// replaced forgets what row i was.
func (x *index) replaced(i int) {
	if x != nil && x.sums != nil {
		x.sums[i] = 0
	}
}

// inserted makes room for a row that is row i now.
func (x *index) inserted(i int) {
	if x == nil {
		return
	}
	x.slots = nil
	if x.sums != nil {
		x.sums = slices.Insert(x.sums, i, 0)
	}
}

// grow makes room for n rows that moved and replaced bring in.
func (x *index) grow(n int) {
	if x == nil {
		return
	}
	x.slots = nil
	if x.sums != nil {
		x.sums = append(x.sums, make([]uint64, n)...)
	}
}

func (x *index) moved(from, to int) {
	if x != nil && x.sums != nil {
		x.sums[to] = x.sums[from]
	}
}

// clear forgets the rows of a list that are about to go.
func (x *index) clear(list []row) {
	if x == nil {
		return
	}
	kept := 0
	for i := range list {
		if list[i].seen == dead {
			x.slots = nil
			continue
		}
		x.moved(i, kept)
		kept++
	}
	if x.sums != nil {
		x.sums = x.sums[:kept]
	}
}
