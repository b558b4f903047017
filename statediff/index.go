package statediff

import (
	"hash/maphash"
	"slices"
	"unsafe"
)

// indexFrom is the number of rows from which Diff looks keys up by their hash. Below it a binary search is as fast. Tests set it,
// to 3 at least: there is a free slot in a table of 3 rows and more.
var indexFrom = 128

// index finds rows by the hash of their key, and by the sum of the value that a row is known to be. It costs at most 8 bytes a
// row for the sums, and for each of its tables, which are open ones of row numbers plus one; a Go map would cost 30. The numbers
// change when rows come or go: then a table is nil, and is built again when it is worth it. A nil index has nothing.
type index struct {
	keys     []uint32
	searched int      // rows, by their key, since there is no table of keys
	sums     []uint64 // by the number of the row, as far as they are known; 0: not
	known    []uint32 // the table of sums; it also has sums that were, which are told by what their row has now
	used     int      // slots of it
}

// searchShare of the rows are searched for before their table is built, which takes as long as some dozen searches a row.
const searchShare = 16

func (x *index) bytes() int64 {
	if x == nil {
		return 0
	}
	return int64(unsafe.Sizeof(*x)) + int64(cap(x.sums))*int64(unsafe.Sizeof(x.sums[0])) +
		int64(cap(x.keys)+cap(x.known))*int64(unsafe.Sizeof(x.keys[0]))
}

// newTable makes a table for n rows, of which a quarter is free.
func newTable(n int) []uint32 {
	size := 1
	for size < n+n/3 {
		size *= 2
	}
	return make([]uint32, size)
}

// enter puts a row into a table.
func enter(table []uint32, hash uint64, i int) {
	mask := uint64(len(table) - 1)
	for table[hash&mask] != 0 {
		hash++
	}
	table[hash&mask] = uint32(i) + 1
}

// find returns the number of the row with this key.
func (x *index) find(r *Rows, key []byte) (int, bool) {
	if x.keys == nil {
		if x.searched++; x.searched < len(r.list)/searchShare {
			return r.search(unsafe.String(unsafe.SliceData(key), len(key)))
		}
		x.keys, x.searched = newTable(len(r.list)), 0
		for i := range r.list {
			enter(x.keys, maphash.String(sumSeed, r.list[i].key()), i)
		}
	}
	slot, mask := maphash.Bytes(sumSeed, key), uint64(len(x.keys)-1)
	for {
		n := x.keys[slot&mask]
		if n == 0 {
			return 0, false
		}
		if r.list[n-1].key() == string(key) {
			return int(n - 1), true
		}
		slot++
	}
}

// row returns the number of the row whose value has this sum.
func (x *index) row(sum uint64) (int, bool) {
	if x.known == nil {
		if x.sums == nil {
			return 0, false
		}
		x.known, x.used = newTable(len(x.sums)), 0
		for i, s := range x.sums {
			if s != 0 {
				enter(x.known, s, i)
				x.used++
			}
		}
	}
	mask := uint64(len(x.known) - 1)
	for slot := sum; ; slot++ {
		n := int(x.known[slot&mask])
		if n == 0 {
			return 0, false
		}
		if x.sums[n-1] == sum {
			return n - 1, true
		}
	}
}

// learn remembers the sum of row i, of n.
func (x *index) learn(i int, sum uint64, n int) {
	if x.sums == nil {
		x.sums = make([]uint64, n)
	}
	if x.sums[i] == sum {
		return
	}
	x.sums[i] = sum
	switch x.used++; {
	case x.known == nil:
	case x.used > len(x.known)/8*7:
		x.known = nil
	default:
		enter(x.known, sum, i)
	}
}

// renumber forgets the tables, as rows come or go.
func (x *index) renumber() { x.keys, x.known, x.searched = nil, nil, 0 }

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
	x.renumber()
	if x.sums != nil {
		x.sums = slices.Insert(x.sums, i, 0)
	}
}

// grow makes room for n rows that moved and replaced bring in.
func (x *index) grow(n int) {
	if x == nil {
		return
	}
	x.renumber()
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
			x.renumber()
			continue
		}
		x.moved(i, kept)
		kept++
	}
	if x.sums != nil {
		x.sums = x.sums[:kept]
	}
}
