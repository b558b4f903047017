package wire

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"sync"
)

// maxDecoded is how much memory the lists and maps of one value may take when it is read. A row of no fields is a byte,
// and in memory it is as large as its Go type: without a limit, a message of 4 MiB could take gigabytes.
const maxDecoded = 256 << 20

// isLarge reports whether a value may take too much memory. Most types tell by their widest element, and are not
// looked at.
func (t *Type) isLarge(data []byte) bool { return len(data) > maxDecoded/max(1, t.traits.Wide) }

// weigh refuses a value that is well-formed and would take too much memory.
func (t *Type) weigh(data []byte) error {
	if !t.isLarge(data) {
		return nil
	}
	w := &weigher{data: data, wide: t.traits.Wide}
	if w.item(t.typ); w.total > maxDecoded {
		return fmt.Errorf("its lists and maps would take more than %d bytes of memory", maxDecoded)
	}
	return nil
}

// weigher walks over a value that is well-formed, beside the type that it is read into.
type weigher struct {
	data  []byte
	off   int
	total int
	wide  int // what an element counts of which the type is not known
}

// ignored is the type of what is not read into parts: a field that is not there, a type that reads itself.
var ignored = reflect.TypeFor[struct{}]()

// item walks over the next item, which is read into t; nil is a type that is not known.
func (w *weigher) item(t reflect.Type) {
	if null := w.data[w.off]; null == 0xf6 || null == 0xf7 {
		w.off++
		return
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
		w.total += int(t.Size())
	}
	if t != nil && (builtIn[t] || Marshals(t)) {
		t = ignored
	}
	switch major, n, endless := w.head(); major {
	case 2, 3:
		w.text(n, endless)
	case 4:
		w.list(t, n, endless)
	case 5:
		w.pairs(t, n, endless)
	case 6:
		w.item(t)
	}
}

func (w *weigher) text(n int, endless bool) {
	if !endless {
		w.off += n
		return
	}
	for !w.ends() {
		w.item(ignored)
	}
	w.off++
}

// list walks over an array.
func (w *weigher) list(t reflect.Type, n int, endless bool) {
	elem, size := reflect.Type(nil), w.wide
	switch {
	case t == ignored:
		elem, size = ignored, 0
	case t != nil && t.Kind() == reflect.Slice:
		elem, size = t.Elem(), int(t.Elem().Size())
	case t != nil && t.Kind() == reflect.Array:
		elem, size = t.Elem(), 0
	}
	for i := 0; w.goesOn(i, n, endless); i++ {
		w.total += size
		w.item(elem)
	}
}

// pairs walks over a map.
func (w *weigher) pairs(t reflect.Type, n int, endless bool) {
	if t != nil && t != ignored && t.Kind() == reflect.Struct {
		for i := 0; w.goesOn(i, n, endless); i++ {
			w.item(w.field(t))
		}
		return
	}
	key, elem, size := reflect.Type(nil), reflect.Type(nil), w.wide
	switch {
	case t == ignored:
		key, elem, size = ignored, ignored, 0
	case t != nil && t.Kind() == reflect.Map:
		key, elem, size = t.Key(), t.Elem(), int(t.Key().Size()+t.Elem().Size())
	}
	for i := 0; w.goesOn(i, n, endless); i++ {
		w.total += size
		w.item(key)
		w.item(elem)
	}
}

// field walks over the name of a field, and returns its type.
func (w *weigher) field(t reflect.Type) reflect.Type {
	at := w.off
	major, n, endless := w.head()
	if major != 3 || endless { // a number, or what no encoder writes
		w.off = at
		w.item(ignored)
		return nil
	}
	w.off += n
	if field := fieldNamed(t, string(w.data[w.off-n:w.off])); field != nil {
		return field
	}
	return ignored
}

// goesOn tells whether there is an i-th item, and passes the end of those that have no number.
func (w *weigher) goesOn(i, n int, endless bool) bool {
	if w.total > maxDecoded {
		return false
	}
	if !endless {
		return i < n
	}
	if w.ends() {
		w.off++
		return false
	}
	return true
}

func (w *weigher) ends() bool { return w.data[w.off] == 0xff }

// head reads the head of an item.
func (w *weigher) head() (major byte, n int, endless bool) {
	first := w.data[w.off]
	w.off++
	major = first >> 5
	switch info := first & 31; info {
	case 24:
		n = int(w.data[w.off])
		w.off++
	case 25:
		n = int(binary.BigEndian.Uint16(w.data[w.off:]))
		w.off += 2
	case 26:
		n = int(binary.BigEndian.Uint32(w.data[w.off:]))
		w.off += 4
	case 27:
		n = int(binary.BigEndian.Uint64(w.data[w.off:]))
		w.off += 8
	case 31:
		endless = true
	default:
		n = int(info)
	}
	return major, n, endless
}

// fields are the types of structs' fields, by their names.
var fields sync.Map // reflect.Type -> map[string]reflect.Type

// fieldNamed is the type of the field of a name, which may be in other letters, large or small; nil when there is none.
func fieldNamed(t reflect.Type, name string) reflect.Type {
	known, ok := fields.Load(t)
	if !ok {
		byName := map[string]reflect.Type{}
		addFields(byName, t)
		known, _ = fields.LoadOrStore(t, byName)
	}
	return known.(map[string]reflect.Type)[strings.ToLower(name)]
}

func addFields(byName map[string]reflect.Type, t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		n, leftOut := nameOf(f)
		switch {
		case leftOut:
		case f.Anonymous && n.text == "" && f.Type.Kind() == reflect.Struct:
			addFields(byName, f.Type)
		default:
			byName[strings.ToLower(cmp.Or(n.text, f.Name))] = f.Type
		}
	}
}
