package statediff

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/dserver-go/dserver/internal/chunk"
)

// MaxKeyBytes is the most that the key of a row may have. It leaves room below the stores' limit for the key of the state.
const MaxKeyBytes = 6 << 10

var errDuplicate = errors.New("this key or id occurs twice")

// Diff returns the edits that turn the committed rows into those of the value that ptr points to: first what is
// cleared, then what is set. They are the fewest that do, and there are none for what was not changed since it was
// decoded, however it is stored. It changes neither the value nor the rows. What the type does not have is left alone, as
// a newer program may have written it: rows under other names, and fields of other names inside of a value.
//
// It fails, and nothing is lost, when an id occurs twice in a list, when an item of a list is nil, when a value is
// larger than 4 MiB or a key than MaxKeyBytes, or when a value cannot be encoded. The same value fails again.
func (s *Schema) Diff(committed *Rows, ptr any) ([]Edit, error) {
	d := s.differs.Get().(*differ)
	defer d.release()
	d.begin(committed)
	return d.diff(ptr)
}

// Rewrite is Diff for rows that were written as the type of another schema, the one that an older version of the program
// had: fields that this one had, and this type has not, are cleared. What neither knows is left alone; without the older
// schema, nothing is.
func (s *Schema) Rewrite(committed *Rows, older *Schema, ptr any) ([]Edit, error) {
	var rows *Rows
	if older != nil {
		rows = older.canonical(committed)
	}
	d := s.differs.Get().(*differ)
	defer d.release()
	d.begin(committed)
	d.rewrite, d.from, d.older = true, older, rows
	return d.diff(ptr)
}

// canonical returns the rows that this schema would write of what it decodes from r; nil when it cannot, and then
// nobody knows which fields of a value it does not have.
func (s *Schema) canonical(r *Rows) *Rows {
	v := s.New().Interface()
	if s.Decode(r, v) != nil {
		return nil
	}
	rows := NewRows()
	edits, err := s.Diff(rows, v)
	if err != nil {
		return nil
	}
	rows.Apply(edits)
	return rows
}

func (d *differ) diff(ptr any) ([]Edit, error) {
	v, err := d.schema.value(ptr)
	if err != nil {
		return nil, err
	}
	if err := d.schema.root.diff(d, v); err != nil {
		return nil, err
	}
	if err := d.finish(); err != nil {
		return nil, err
	}
	return d.edits(), nil
}

// differ is the work of one Diff. It is used again and again: what it holds beside the result makes no garbage.
type differ struct {
	schema  *Schema
	rows    *Rows
	index   *index // of the rows, if they are many
	epoch   uint32
	met     int  // committed rows that are still there
	at      int  // the row met last
	rewrite bool // the rows have an older form
	merged  bool // d.buf has more than this schema's encoding of the value
	path    []byte
	sum     uint64 // of the value that is being compared; 0: none
	hash    uint64 // of its place, where its map knows it; else 0
	buf     bytes.Buffer
	spare   bytes.Buffer // of what is encoded again
	older   *Rows        // with Rewrite: what the schema of the older version makes of the committed rows
	from    *Schema      // with Rewrite: the schema of the older version
	apart   []string     // the keys of entries that are others than the rows there
	parted  int          // the length of the key of such an entry, while it is compared; else 0
	origin  string       // the key at which it was committed, "" of a new one
	places  []place      // of the lists that are being walked
	scratch []scratch
	cleared []Edit // trees that are set anew
	sets    []Edit
}

// scratch is space that one node of the schema uses while its map is walked, or its value is copied.
type scratch struct {
	made      reflect.Value
	iter      reflect.MapIter
	key, elem reflect.Value
}

func newDiffer(s *Schema) *differ {
	return &differ{schema: s, scratch: make([]scratch, s.slots)}
}

func (d *differ) begin(committed *Rows) {
	d.rows, d.epoch = committed, committed.mark(d.schema.serial)
	d.met, d.at, d.path, d.places, d.hash = 0, -1, d.path[:0], d.places[:0], 0
	d.sum = 0
	d.rewrite, d.merged, d.parted, d.origin, d.apart = false, false, 0, "", d.apart[:0]
	if len(committed.list) < indexFrom {
		d.index, committed.index = nil, nil
		return
	}
	if committed.index == nil {
		committed.index = &index{}
	}
	d.index = committed.index
}

// keptBytes bounds the encoding buffer that an idle differ keeps.
const keptBytes = 256 << 10

func (d *differ) release() {
	d.rows, d.index, d.cleared, d.sets, d.older, d.from = nil, nil, nil, nil, nil, nil
	for _, buf := range []*bytes.Buffer{&d.buf, &d.spare} {
		if buf.Cap() > keptBytes {
			*buf = bytes.Buffer{}
		}
	}
	d.schema.differs.Put(d)
}

func (d *differ) made(w *whole) reflect.Value {
	if w.made == nil {
		return reflect.Value{}
	}
	s := &d.scratch[w.slot]
	if !s.made.IsValid() {
		s.made = reflect.New(w.made).Elem()
	}
	return s.made
}

// fail says where an error occurred.
func (d *differ) fail(err error) error {
	return placed(d.schema.typ, string(d.path), err)
}

// emit writes the encoded value in d.buf to the row at d.path, and to rows below it when it is large.
func (d *differ) emit(e *entity) error {
	value := d.buf.Bytes()
	if len(value) <= chunk.Bytes && !mayBeFirstPart(value) {
		if e.isLeaf() && d.shrink() {
			return d.set(string(d.path), value)
		}
		return d.emitRow(value)
	}
	parts, err := chunk.Split(value)
	if err != nil {
		return d.fail(err)
	}
	d.forgetBase()
	d.sum = 0
	at := len(d.path)
	for i, part := range parts {
		if i > 0 {
			d.path = appendPart(d.path[:at], i)
		}
		if err := d.emitRow(part); err != nil {
			return err
		}
	}
	d.path = d.path[:at]
	return nil
}

// shrink clears the rows of a value that was large and is not any more, in one edit instead of one for each.
func (d *differ) shrink() bool {
	i, found := d.find()
	if !found || !mayBeFirstPart(d.rows.list[i].value()) {
		return false
	}
	list, key := d.rows.list, d.rows.list[i].key()
	for ; i < len(list) && isBelow(list[i].key(), key); i++ {
		d.meet(i)
	}
	d.cleared = append(d.cleared, Edit{Key: key, Clear: Tree})
	return true
}

// mayBeFirstPart tells whether a value begins as the first row of a large one does, with a tag of four bytes. Only
// then does chunk need to look at it.
func mayBeFirstPart[T string | []byte](value T) bool { return len(value) > 0 && value[0] == 0xda }

// emitRow compares one row.
func (d *differ) emitRow(value []byte) error {
	i, found := d.find()
	if !found {
		return d.set(string(d.path), value)
	}
	row := &d.rows.list[i]
	if row.seen == d.epoch {
		return d.fail(errDuplicate)
	}
	d.meet(i)
	if row.value() == string(value) {
		return nil
	}
	return d.set(row.key(), value)
}

// meet notes that a committed row is still there.
func (d *differ) meet(i int) {
	d.rows.list[i].seen = d.epoch
	d.met++
	d.at = i
}

func (d *differ) set(key string, value []byte) error {
	if len(key) > MaxKeyBytes {
		return d.fail(fmt.Errorf("a key of %d bytes; at most %d", len(key), MaxKeyBytes))
	}
	e := Edit{Key: key, Value: bytes.Clone(value)}
	if !d.merged {
		e.base, e.sum = d.schema.serial, d.sum
	}
	d.sets = append(d.sets, e)
	return nil
}

// find returns the committed row at d.path. Fields come in the order of keys, so the row after the last is tried first.
func (d *differ) find() (int, bool) {
	list, next := d.rows.list, d.at+1
	if next < len(list) && list[next].key() == string(d.path) {
		return next, true
	}
	if d.index != nil {
		return d.index.find(d.rows, d.path)
	}
	if d.isBetween(next) {
		return next, false
	}
	return slices.BinarySearchFunc(list, d.path, func(r row, path []byte) int {
		switch {
		case r.key() < string(path):
			return -1
		case r.key() > string(path):
			return 1
		}
		return 0
	})
}

// isBetween tells whether d.path is between the row met last and the next one: where fields are zero that have no row.
func (d *differ) isBetween(next int) bool {
	list := d.rows.list
	return (d.at < 0 || list[d.at].key() < string(d.path)) && (next == len(list) || string(d.path) < list[next].key())
}

// meetTree notes that all rows below a key are still there.
func (d *differ) meetTree(key string) {
	for i, _ := d.rows.search(key); i < len(d.rows.list) && isBelow(d.rows.list[i].key(), key); i++ {
		d.meet(i)
	}
}

// finish brings the edits in order and adds what has to be cleared.
func (d *differ) finish() error {
	if len(d.sets) > 1 {
		slices.SortFunc(d.sets, func(a, b Edit) int { return cmp.Compare(a.Key, b.Key) })
	}
	for i := 1; i < len(d.sets); i++ {
		if d.sets[i].Key == d.sets[i-1].Key {
			d.path = append(d.path[:0], d.sets[i].Key...)
			return d.fail(errDuplicate)
		}
	}
	if d.met == len(d.rows.list) {
		return nil
	}
	d.keepUnknown()
	d.cleared = append(d.cleared, d.clears()...)
	return nil
}

// edits returns what finish left.
func (d *differ) edits() []Edit {
	if d.cleared == nil {
		return d.sets
	}
	return append(d.cleared, d.sets...)
}
