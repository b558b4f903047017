package statediff

import (
	"hash/maphash"
	"unsafe"
)

// indexFrom is the number of rows from which Diff looks keys up by their hash. Below it a binary search is as fast.
const indexFrom = 128

// index finds rows by the hash of their key: an open table of row numbers plus one. It costs at most 8 bytes a row,
// a Go map would cost 30, and it is built again after rows came or went, which costs less than the Diff that needs it.
type index struct {
	slots []uint32
	seed  maphash.Seed
}

func (x *index) bytes() int64 {
	if x == nil {
		return 0
	}
	return int64(unsafe.Sizeof(*x)) + int64(cap(x.slots))*int64(unsafe.Sizeof(x.slots[0]))
}

func newIndex(list []row) *index {
	size := 1
	for size < len(list)+len(list)/3 {
		size *= 2
	}
	x := &index{slots: make([]uint32, size), seed: maphash.MakeSeed()}
	for i := range list {
		slot := maphash.String(x.seed, list[i].key())
		for x.slots[slot&uint64(size-1)] != 0 {
			slot++
		}
		x.slots[slot&uint64(size-1)] = uint32(i) + 1
	}
	return x
}

// find returns the number of the row with this key.
func (x *index) find(list []row, key []byte) (int, bool) {
	slot, mask := maphash.Bytes(x.seed, key), uint64(len(x.slots)-1)
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
