package statediff

import (
	"cmp"
	"encoding/binary"
	"iter"
	"slices"
	"strings"
	"unsafe"
)

// Rows are the committed rows of one value, in the order of their keys. They are kept small, as caches hold many.
// Rows are not safe for concurrent use, not even by Diff, which keeps its marks in them.
type Rows struct {
	list  []row
	index *index // nil until a Diff needs it, which is that of many rows
	size  int64  // of the keys and values, and of the bases
	epoch uint32 // of the latest Diff
	based uint32 // the serial of the schema whose bases the rows have; 0: none
}

// row is a key and its value in one string, and perhaps behind them a base, with its length: what the value is when a
// schema has decoded it and encodes it again, where that is something else (merge.go).
type row struct {
	data string
	klen uint32 // of the key, with hasBase or isBase
	seen uint32 // the epoch of the Diff that last met this row
}

const (
	hasBase   = 1 << 31
	isBase    = 1 << 30 // the value is its own base
	baseBytes = 4       // of the length of a base
)

func (r *row) keyLen() int { return int(r.klen &^ (hasBase | isBase)) }
func (r *row) key() string { return r.data[:r.keyLen()] }

func (r *row) value() string {
	if r.klen < hasBase {
		return r.data[r.keyLen():]
	}
	return r.data[r.keyLen() : len(r.data)-baseBytes-r.baseLen()]
}

func (r *row) baseLen() int {
	return int(binary.BigEndian.Uint32([]byte(r.data[len(r.data)-baseBytes:])))
}

// base returns what setBase was given, if it is not the value.
func (r *row) base() (base string, found bool) {
	if r.klen < hasBase {
		return "", false
	}
	end := len(r.data) - baseBytes
	return r.data[end-r.baseLen() : end], true
}

func (r *row) isBase() bool { return r.klen&isBase != 0 }

func (r *row) setBase(base []byte) {
	key, value := r.key(), r.value()
	var b strings.Builder
	b.Grow(len(key) + len(value) + len(base) + baseBytes)
	b.WriteString(key)
	b.WriteString(value)
	b.Write(base)
	b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(base))))
	r.data, r.klen = b.String(), uint32(len(key))|hasBase
}

func (r *row) dropBase() {
	if r.klen >= hasBase {
		r.data = strings.Clone(r.data[:r.keyLen()+len(r.value())])
	}
	r.klen = uint32(r.keyLen())
}

func newRow(key string, value []byte) row {
	var b strings.Builder
	b.Grow(len(key) + len(value))
	b.WriteString(key)
	b.Write(value)
	return row{data: b.String(), klen: uint32(len(key))}
}

// NewRows returns the rows of a state that is all zero: none.
func NewRows() *Rows { return &Rows{} }

// Len is the number of rows.
func (r *Rows) Len() int { return len(r.list) }

// Set adds a row, or replaces the one with this key. It copies both. It is fast in the order of keys, as a store reads them.
func (r *Rows) Set(key string, value []byte) {
	r.set(newRow(key, value))
}

func (r *Rows) set(added row) {
	key := added.key()
	added.seen = 0
	if n := len(r.list); n == 0 || r.list[n-1].key() < key {
		r.list = append(r.list, added)
		r.index.inserted(n)
	} else if i, found := r.search(key); found {
		r.size -= int64(len(r.list[i].data))
		r.list[i] = added
		r.index.replaced(i)
	} else {
		r.list = slices.Insert(r.list, i, added)
		r.index.inserted(i)
	}
	r.size += int64(len(added.data))
}

// Get returns a copy of one row's value.
func (r *Rows) Get(key string) (value []byte, found bool) {
	i, found := r.search(key)
	if !found {
		return nil, false
	}
	return []byte(r.list[i].value()), true
}

// Clone returns rows that can be changed apart. It shares the memory of keys and values, which never change.
func (r *Rows) Clone() *Rows {
	return &Rows{list: slices.Clone(r.list), size: r.size, epoch: r.epoch, based: r.based}
}

// All yields the rows in the order of their keys. The values are copies.
func (r *Rows) All() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for i := range r.list {
			if !yield(r.list[i].key(), []byte(r.list[i].value())) {
				return
			}
		}
	}
}

// allocationBytes is about what the allocator rounds a row's string up by.
const allocationBytes = 8

// Bytes estimates the memory that the rows take, with what they cost beside keys and values.
func (r *Rows) Bytes() int64 {
	return int64(unsafe.Sizeof(*r)) + int64(cap(r.list))*int64(unsafe.Sizeof(row{})) +
		r.size + allocationBytes*int64(len(r.list)) + r.index.bytes()
}

// search returns the place of key, or where it would be.
func (r *Rows) search(key string) (int, bool) {
	return slices.BinarySearchFunc(r.list, key, func(e row, key string) int { return cmp.Compare(e.key(), key) })
}

// Apply makes the edits, in their order. It is for those that Diff returned, after their commit: then it takes time
// in proportion to the rows that came or went, and one pass over the others when there are any.
func (r *Rows) Apply(edits []Edit) {
	for len(edits) > 0 {
		sets := slices.IndexFunc(edits, func(e Edit) bool { return e.Clear == None })
		if sets < 0 {
			sets = len(edits)
		}
		r.clear(edits[:sets])
		clears := slices.IndexFunc(edits[sets:], func(e Edit) bool { return e.Clear != None })
		if clears < 0 {
			clears = len(edits) - sets
		}
		r.insert(edits[sets : sets+clears])
		edits = edits[sets+clears:]
	}
}

func (r *Rows) clear(edits []Edit) {
	before := len(r.list)
	for _, e := range edits {
		begin, end := e.Range()
		i, _ := r.search(begin)
		for ; i < len(r.list) && r.list[i].key() < end; i++ {
			r.list[i].seen = dead
		}
	}
	if len(edits) == 0 {
		return
	}
	r.index.clear(r.list)
	r.list = slices.DeleteFunc(r.list, func(e row) bool {
		if e.seen == dead {
			r.size -= int64(len(e.data))
		}
		return e.seen == dead
	})
	if len(r.list) != before {
		r.shrink()
	}
}

// dead marks a row that is about to go. No Diff has this epoch.
const dead = ^uint32(0)

// shrink gives memory back after most rows went.
func (r *Rows) shrink() {
	if cap(r.list) > 16 && len(r.list) < cap(r.list)/4 {
		r.list = slices.Clone(r.list)
		if r.index != nil {
			r.index.sums = slices.Clone(r.index.sums)
		}
	}
}

// insert replaces values in place and merges new rows in one pass.
func (r *Rows) insert(edits []Edit) {
	var added []row
	for _, e := range edits {
		if e.aside {
			continue
		}
		if i, found := r.search(e.Key); found {
			r.size -= int64(len(r.list[i].data))
			r.list[i] = r.rowOf(e)
			r.index.replaced(i)
			r.size += int64(len(r.list[i].data))
			continue
		}
		added = append(added, r.rowOf(e))
	}
	r.add(added)
	for _, e := range edits {
		if e.sum != 0 && r.index != nil && e.base == r.based && !e.aside {
			i, _ := r.search(e.Key)
			r.index.learn(i, e.sum, len(r.list))
		}
	}
}

// add adds rows that are new.
func (r *Rows) add(added []row) {
	if len(added) == 0 {
		return
	}
	slices.SortStableFunc(added, func(a, b row) int { return cmp.Compare(a.key(), b.key()) })
	if len(added) == 1 || hasTwins(added) {
		for _, a := range added {
			r.set(a)
		}
		return
	}
	r.merge(added)
}

// rowOf is the row that an edit sets.
func (r *Rows) rowOf(e Edit) row {
	set := newRow(e.Key, e.Value)
	if e.base != 0 && e.base == r.based {
		set.klen |= isBase
	}
	return set
}

func hasTwins(sorted []row) bool {
	for i := 1; i < len(sorted); i++ {
		if sorted[i].key() == sorted[i-1].key() {
			return true
		}
	}
	return false
}

// merge adds rows that are sorted and new. It fills the list from its end, so that each row moves once.
func (r *Rows) merge(added []row) {
	old, next := len(r.list)-1, len(added)-1
	r.list = slices.Grow(r.list, len(added))[:len(r.list)+len(added)]
	r.index.grow(len(added))
	for to := len(r.list) - 1; next >= 0; to-- {
		if old >= 0 && r.list[old].key() > added[next].key() {
			r.list[to] = r.list[old]
			r.index.moved(old, to)
			old--
			continue
		}
		r.list[to] = added[next]
		r.index.replaced(to)
		r.size += int64(len(added[next].data))
		next--
	}
}

// setBase keeps a base of row i.
func (r *Rows) setBase(i int, base []byte) {
	r.size -= int64(len(r.list[i].data))
	r.list[i].setBase(base)
	r.size += int64(len(r.list[i].data))
}

func (r *Rows) dropBase(i int) {
	r.size -= int64(len(r.list[i].data))
	r.list[i].dropBase()
	r.size += int64(len(r.list[i].data))
}

// dropBases forgets the bases that another schema left.
func (r *Rows) dropBases() {
	for i := range r.list {
		r.dropBase(i)
	}
}

// mark begins a Diff of a schema: rows that it meets get the new epoch.
func (r *Rows) mark(schema uint32) uint32 {
	if r.based != schema && r.based != 0 {
		r.dropBases()
		r.index = nil
	}
	r.based = schema
	r.epoch++
	if r.epoch == dead {
		r.epoch = 1
		for i := range r.list {
			r.list[i].seen = 0
		}
	}
	return r.epoch
}
