package occ

import (
	"bytes"
	"iter"
	"slices"
	"sort"

	"github.com/dserver-go/dserver/backend"
)

// Kind is what a write does to its key.
type Kind uint8

// The kinds of writes. A record holds the first three.
const (
	Set    Kind = iota // the value becomes Value
	Remove             // the key goes
	Add                // the counter that is stored grows by Delta
	stamp              // the value becomes the versionstamp
)

// Write is the sum of what a transaction, or a group of them, does to one key.
type Write struct {
	Key   backend.Key
	Value []byte
	Delta int64
	Kind  Kind

	isStamp bool // the value is the versionstamp of the commit
}

// blockItems bounds what an insertion moves.
const blockItems = 256

// ordered holds writes by key. The zero value is empty.
type ordered struct {
	blocks [][]*Write // each in order and none empty
	count  int
}

// seek returns where the first write is whose key is not before key, and whether it is key's.
func (o *ordered) seek(key backend.Key) (block, place int, found bool) {
	block = sort.Search(len(o.blocks), func(i int) bool {
		b := o.blocks[i]
		return bytes.Compare(b[len(b)-1].Key, key) >= 0
	})
	if block == len(o.blocks) {
		return block, 0, false
	}
	b := o.blocks[block]
	low, high := 0, len(b)
	for low < high {
		middle := (low + high) / 2
		if bytes.Compare(b[middle].Key, key) < 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return block, low, bytes.Equal(b[low].Key, key)
}

// find returns the write of key, or nil.
func (o *ordered) find(key backend.Key) *Write {
	if block, place, found := o.seek(key); found {
		return o.blocks[block][place]
	}
	return nil
}

// all are the writes, in order.
func (o *ordered) all() iter.Seq[*Write] {
	return func(yield func(*Write) bool) {
		for _, block := range o.blocks {
			for _, w := range block {
				if !yield(w) {
					return
				}
			}
		}
	}
}

// put adds w, or replaces the write of the same key.
func (o *ordered) put(w *Write) {
	block, place, found := o.seek(w.Key)
	if found {
		o.blocks[block][place] = w
		return
	}
	o.blocks = insert(o.blocks, block, place, w)
	o.count++
}

// insert puts x where a seek found its place.
func insert[T any](blocks [][]T, block, place int, x T) [][]T {
	switch {
	case len(blocks) == 0 && cap(blocks) > 0: // there may be a block from before, to be used again
		blocks = blocks[:1]
	case len(blocks) == 0:
		blocks = append(blocks, nil)
	case block == len(blocks): // after all: the usual way of keys that come in order
		block--
		place = len(blocks[block])
	}
	blocks[block] = slices.Insert(blocks[block], place, x)
	if len(blocks[block]) > blockItems {
		blocks = split(blocks, block, place)
	}
	return blocks
}

// split makes two blocks of one. Where the last insertion was at its end more are expected there, so it stays full.
func split[T any](blocks [][]T, block, place int) [][]T {
	b := blocks[block]
	middle := len(b) / 2
	if place == len(b)-1 {
		middle = place
	}
	blocks[block] = b[:middle:middle]
	return slices.Insert(blocks, block+1, slices.Clone(b[middle:]))
}

// cut removes what is in a block from place up to end.
func cut[T any](blocks [][]T, block, place, end int) [][]T {
	if blocks[block] = slices.Delete(blocks[block], place, end); len(blocks[block]) == 0 {
		blocks = slices.Delete(blocks, block, block+1)
	}
	return blocks
}

// drop removes all writes in r.
func (o *ordered) drop(r backend.Range) {
	for {
		block, place, _ := o.seek(r.Begin)
		if block == len(o.blocks) || !r.Contains(o.blocks[block][place].Key) {
			return
		}
		b := o.blocks[block]
		end := place
		for end < len(b) && r.Contains(b[end].Key) {
			end++
		}
		o.count -= end - place
		o.blocks = cut(o.blocks, block, place, end)
	}
}

// any reports whether there is a write in r.
func (o *ordered) any(r backend.Range) bool {
	block, place, _ := o.seek(r.Begin)
	return block < len(o.blocks) && bytes.Compare(o.blocks[block][place].Key, r.End) < 0
}

// in appends the writes in r to found, in order.
func (o *ordered) in(r backend.Range, found []*Write) []*Write {
	for block, place, _ := o.seek(r.Begin); block < len(o.blocks); block, place = block+1, 0 {
		for _, w := range o.blocks[block][place:] {
			if bytes.Compare(w.Key, r.End) >= 0 {
				return found
			}
			found = append(found, w)
		}
	}
	return found
}

// Spans is a set of keys: ranges that do not meet, in order. The zero value is empty.
type Spans struct {
	blocks [][]backend.Range // each in order and none empty
}

func (s *Spans) isEmpty() bool { return len(s.blocks) == 0 }

// All are the ranges, in order.
func (s *Spans) All() iter.Seq[backend.Range] {
	return func(yield func(backend.Range) bool) {
		for _, block := range s.blocks {
			for _, r := range block {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// seek returns where the first range is whose end is after key.
func (s *Spans) seek(key backend.Key) (block, place int) {
	return s.first(func(r backend.Range) bool { return bytes.Compare(key, r.End) < 0 })
}

// first returns where the first range is of which ends holds, as it does of all that follow.
func (s *Spans) first(ends func(backend.Range) bool) (block, place int) {
	block = sort.Search(len(s.blocks), func(i int) bool {
		b := s.blocks[i]
		return ends(b[len(b)-1])
	})
	if block == len(s.blocks) {
		return block, 0
	}
	b := s.blocks[block]
	return block, sort.Search(len(b), func(i int) bool { return ends(b[i]) })
}

// Add adds the keys of r, which is not empty. Each range that it meets becomes a part of it.
func (s *Spans) Add(r backend.Range) {
	for {
		block, place := s.first(func(x backend.Range) bool { return bytes.Compare(r.Begin, x.End) <= 0 })
		if block == len(s.blocks) || bytes.Compare(s.blocks[block][place].Begin, r.End) > 0 {
			s.blocks = insert(s.blocks, block, place, r)
			return
		}
		r = union(r, s.blocks[block][place])
		s.blocks = cut(s.blocks, block, place, place+1)
	}
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

func (s *Spans) contains(key backend.Key) bool {
	if s.isEmpty() {
		return false
	}
	block, place := s.seek(key)
	return block < len(s.blocks) && s.blocks[block][place].Contains(key)
}

// Overlaps reports whether a key could be in both s and r.
func (s *Spans) Overlaps(r backend.Range) bool {
	if s.isEmpty() || r.IsEmpty() {
		return false
	}
	block, place := s.seek(r.Begin)
	return block < len(s.blocks) && bytes.Compare(s.blocks[block][place].Begin, r.End) < 0
}
