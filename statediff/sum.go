package statediff

import (
	"hash/maphash"
	"math"
	"math/bits"
	"reflect"
	"slices"
	"time"
)

// In a large collection most entries are as they were, and to see that by encoding each of them takes longer than all else
// that a turn does. So an index keeps a sum (a hash) of each value that was found to be what its row says, and an entry with
// the same sum is not encoded again. A sum is of 64 bits with a seed that each process draws anew: that one change of an
// entry goes unseen has a probability of 2^-64, less than that of a memory that has it wrong.

// summer adds what a value is to a sum: all that its encoding could depend on. Values of a type with methods of its own that
// say how it is encoded have none.
type summer func(sum uint64, v reflect.Value) uint64

// sumSeed is the seed of all sums and indexes of this process.
var sumSeed = maphash.MakeSeed()

// sumFactor is odd and not to be guessed.
var sumFactor = maphash.String(sumSeed, "factor") | 1

func addSum(sum, x uint64) uint64 {
	high, low := bits.Mul64(sum^x, sumFactor)
	return bits.RotateLeft64(high^low, 29) + x
}

// summerFor returns the summer of a type, nil when it has none.
func summerFor(t reflect.Type, within ...reflect.Type) summer {
	switch {
	case t == reflect.TypeFor[time.Time]():
	case marshals(t) || slices.Contains(within, t):
		return nil
	}
	switch t.Kind() {
	case reflect.Bool:
		return func(sum uint64, v reflect.Value) uint64 {
			if v.Bool() {
				return addSum(sum, 1)
			}
			return addSum(sum, 0)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(sum uint64, v reflect.Value) uint64 { return addSum(sum, uint64(v.Int())) }
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return func(sum uint64, v reflect.Value) uint64 { return addSum(sum, v.Uint()) }
	case reflect.Float32, reflect.Float64:
		return func(sum uint64, v reflect.Value) uint64 { return addSum(sum, math.Float64bits(v.Float())) }
	case reflect.String:
		return func(sum uint64, v reflect.Value) uint64 { return addSum(sum, maphash.String(sumSeed, v.String())) }
	case reflect.Struct:
		return summerOfStruct(t, append(within, t))
	case reflect.Slice, reflect.Array:
		return summerOfSlice(t, append(within, t))
	case reflect.Pointer:
		return summerOfPointer(t, append(within, t))
	}
	return nil
}

// summerOfStruct takes the fields that are not stored, too: a method, such as IsZero, may ask for them.
func summerOfStruct(t reflect.Type, within []reflect.Type) summer {
	fields := make([]summer, t.NumField())
	for i := range fields {
		f := t.Field(i).Type
		if f == reflect.TypeFor[*time.Location]() {
			fields[i] = func(sum uint64, v reflect.Value) uint64 { return addSum(sum, uint64(v.Pointer())) }
		} else if fields[i] = summerFor(f, within...); fields[i] == nil {
			return nil
		}
	}
	return func(sum uint64, v reflect.Value) uint64 {
		for i, add := range fields {
			sum = add(sum, v.Field(i))
		}
		return sum
	}
}

func summerOfSlice(t reflect.Type, within []reflect.Type) summer {
	element := summerFor(t.Elem(), within...)
	switch {
	case element == nil:
		return nil
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return func(sum uint64, v reflect.Value) uint64 { return addSum(sum, maphash.Bytes(sumSeed, v.Bytes())) }
	}
	return func(sum uint64, v reflect.Value) uint64 {
		n := v.Len()
		sum = addSum(sum, uint64(n))
		for i := range n {
			sum = element(sum, v.Index(i))
		}
		return sum
	}
}

func summerOfPointer(t reflect.Type, within []reflect.Type) summer {
	element := summerFor(t.Elem(), within...)
	if element == nil {
		return nil
	}
	return func(sum uint64, v reflect.Value) uint64 {
		if v.IsNil() {
			return addSum(sum, 0)
		}
		return element(addSum(sum, 1), v.Elem())
	}
}

// isKnown tells whether a value is known to be what its row says, and remembers its sum for when it is not. The sum stands on its
// place: the hash of d.path, or what its map has made of the key.
func (d *differ) isKnown(e *entity, v reflect.Value) (i int, known bool) {
	if d.sum = 0; !d.knows(e) {
		return 0, false
	}
	hash := d.hash
	if hash == 0 {
		hash = maphash.Bytes(sumSeed, d.path)
	}
	d.sum = max(1, e.sum(hash, v))
	if i, known = d.index.row(d.sum); known {
		d.sum = 0
	}
	return i, known
}

// knows tells whether values may be known.
func (d *differ) knows(e *entity) bool { return e.sum != nil && d.index != nil && !d.rewrite }
