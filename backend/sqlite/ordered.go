package sqlite

import (
	"bytes"
	"slices"
	"sort"

	"github.com/dserver-go/dserver/backend"
)

// kind is what a write does to its key.
type kind uint8

const (
	set    kind = iota // the value becomes value
	remove             // the key goes
	add                // the counter that is stored grows by delta
	stamp              // the value becomes the versionstamp
)

// write is the sum of what a transaction, or a group of them, does to one key.
type write struct {
	key   backend.Key
	value []byte
	delta int64
	kind  kind
}

// blockWrites bounds what an insertion moves.
const blockWrites = 256

// ordered holds writes by key. The zero value is empty.
type ordered struct {
	blocks [][]*write // each in order and none empty
	count  int
}

// seek returns where the first write is whose key is not before key, and whether it is key's.
func (o *ordered) seek(key backend.Key) (block, place int, found bool) {
	block = sort.Search(len(o.blocks), func(i int) bool {
		b := o.blocks[i]
		return bytes.Compare(b[len(b)-1].key, key) >= 0
	})
	if block == len(o.blocks) {
		return block, 0, false
	}
	b := o.blocks[block]
	low, high := 0, len(b)
	for low < high {
		middle := (low + high) / 2
		if bytes.Compare(b[middle].key, key) < 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return block, low, bytes.Equal(b[low].key, key)
}

// find returns the write of key, or nil.
func (o *ordered) find(key backend.Key) *write {
	if block, place, found := o.seek(key); found {
		return o.blocks[block][place]
	}
	return nil
}

// put adds w, or replaces the write of the same key.
func (o *ordered) put(w *write) {
	block, place, found := o.seek(w.key)
	switch {
	case found:
		o.blocks[block][place] = w
		return
	case len(o.blocks) == 0 && cap(o.blocks) > 0: // there may be a block from before, to be used again
		o.blocks = o.blocks[:1]
	case len(o.blocks) == 0:
		o.blocks = append(o.blocks, nil)
	case block == len(o.blocks): // after all: the usual way of keys that come in order
		block--
		place = len(o.blocks[block])
	}
	o.blocks[block] = slices.Insert(o.blocks[block], place, w)
	o.count++
	if len(o.blocks[block]) > blockWrites {
		o.split(block, place)
	}
}

// split makes two blocks of one. Where the last insertion was at its end more are expected there, so it stays full.
func (o *ordered) split(block, place int) {
	b := o.blocks[block]
	middle := len(b) / 2
	if place == len(b)-1 {
		middle = place
	}
	o.blocks[block] = b[:middle:middle]
	o.blocks = slices.Insert(o.blocks, block+1, slices.Clone(b[middle:]))
}

// drop removes all writes in r.
func (o *ordered) drop(r backend.Range) {
	for {
		block, place, _ := o.seek(r.Begin)
		if block == len(o.blocks) || !r.Contains(o.blocks[block][place].key) {
			return
		}
		b := o.blocks[block]
		end := place
		for end < len(b) && r.Contains(b[end].key) {
			end++
		}
		o.count -= end - place
		if o.blocks[block] = slices.Delete(b, place, end); len(o.blocks[block]) == 0 {
			o.blocks = slices.Delete(o.blocks, block, block+1)
		}
	}
}

// any reports whether there is a write in r.
func (o *ordered) any(r backend.Range) bool {
	block, place, _ := o.seek(r.Begin)
	return block < len(o.blocks) && bytes.Compare(o.blocks[block][place].key, r.End) < 0
}

// in appends the writes in r to found, in order.
func (o *ordered) in(r backend.Range, found []*write) []*write {
	for block, place, _ := o.seek(r.Begin); block < len(o.blocks); block, place = block+1, 0 {
		for _, w := range o.blocks[block][place:] {
			if bytes.Compare(w.key, r.End) >= 0 {
				return found
			}
			found = append(found, w)
		}
	}
	return found
}

// spans is a set of keys: ranges that do not meet, in order. The zero value is empty.
type spans []backend.Range

// seek returns the first range that ends after key.
func (s spans) seek(key backend.Key) int {
	return sort.Search(len(s), func(i int) bool { return bytes.Compare(key, s[i].End) < 0 })
}

// add adds the keys of r, which is not empty.
func (s *spans) add(r backend.Range) {
	first := sort.Search(len(*s), func(i int) bool { return bytes.Compare(r.Begin, (*s)[i].End) <= 0 })
	last := first
	for last < len(*s) && bytes.Compare((*s)[last].Begin, r.End) <= 0 {
		r = union(r, (*s)[last])
		last++
	}
	*s = slices.Replace(*s, first, last, r)
}

func union(a, b backend.Range) backend.Range {
	if b.Begin.Compare(a.Begin) < 0 {
		a.Begin = b.Begin
	}
	if b.End.Compare(a.End) > 0 {
		a.End = b.End
	}
	return a
}

func (s spans) contains(key backend.Key) bool {
	if len(s) == 0 {
		return false
	}
	i := s.seek(key)
	return i < len(s) && s[i].Contains(key)
}

// overlaps reports whether a key could be in both s and r.
func (s spans) overlaps(r backend.Range) bool {
	if len(s) == 0 || r.IsEmpty() {
		return false
	}
	i := s.seek(r.Begin)
	return i < len(s) && bytes.Compare(s[i].Begin, r.End) < 0
}
