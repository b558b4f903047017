package backendtest

import (
	"fmt"

	"github.com/dserver-go/dserver/backend"
)

// op is one step of a random transaction: a read, whose result is compared with the oracle's, or a write.
type op struct {
	verb    verb
	key     backend.Key
	where   backend.Range
	options backend.RangeOptions
	value   string
	delta   int64
}

type verb int

const (
	opGet verb = iota
	opGetRange
	opSet
	opClear
	opAdd
	opAppend
	opStamp
	verbs // their number
)

// writes reports whether o is a write. Clearing an empty range is none.
func (o op) writes() bool { return o.verb >= opSet && (o.verb != opClear || !o.where.IsEmpty()) }

// String is for failures.
func (o op) String() string {
	switch o.verb {
	case opGet:
		return fmt.Sprintf("get %v", o.key)
	case opGetRange:
		return fmt.Sprintf("range %v %+v", o.where, o.options)
	case opSet:
		return fmt.Sprintf("set %v=%s", o.key, o.value)
	case opClear:
		return fmt.Sprintf("clear %v", o.where)
	case opAdd:
		return fmt.Sprintf("add %v %d", o.key, o.delta)
	case opAppend:
		return fmt.Sprintf("append %v=%s", o.key, o.value)
	}
	return fmt.Sprintf("stamp %v", o.key)
}

// on does o in a transaction. The result of a read is text.
func (o op) on(tx backend.Tx) (result string, err error) {
	switch o.verb {
	case opGet:
		value, err := tx.Get(o.key).Get()
		return shown(value), err
	case opGetRange:
		found, err := tx.GetRange(o.where, o.options).Get()
		return shownPairs(found), err
	case opSet:
		tx.Set(o.key, []byte(o.value))
	case opClear:
		tx.Clear(o.where)
	case opAdd:
		tx.Add(o.key, o.delta)
	case opAppend:
		tx.Append(o.key, []byte(o.value))
	case opStamp:
		tx.Stamp(o.key)
	}
	return "", nil
}

func shown(value []byte) string {
	if value == nil {
		return absent
	}
	return fmt.Sprintf("%q", value)
}

func shownPairs(pairs []backend.KeyValue) (text string) {
	for _, p := range pairs {
		text += fmt.Sprintf("%v=%q ", p.Key, p.Value)
	}
	return text
}

// ops are a transaction.
type ops []op

// on does all in one transaction and returns the results of the reads.
func (os ops) on(tx backend.Tx) ([]string, error) {
	results := make([]string, len(os))
	for i, o := range os {
		var err error
		if results[i], err = o.on(tx); err != nil {
			return nil, fmt.Errorf("%v: %w", o, err)
		}
	}
	return results, nil
}

func (os ops) write() bool {
	for _, o := range os {
		if o.writes() {
			return true
		}
	}
	return false
}

// chooser draws a number from 0 to n-1: rapid's, which shrinks, or that of a seed.
type chooser func(n int) int

// space is the keys of one random test, in four families: plain values, counters, queues and stamps. They are few, so
// that transactions meet.
type space struct{ root backend.Key }

const families, perFamily = 4, 5

func (s space) in(family string, i int) backend.Key { return s.root.Str(family).Int(int64(i)) }

// transaction draws a transaction of up to most steps. What is unknown before the commit is not read.
func (s space) transaction(choose chooser, most int) (drawn ops) {
	unknown := false
	for range 1 + choose(most) {
		o := s.op(choose, unknown)
		unknown = unknown || o.verb == opAppend || o.verb == opStamp
		drawn = append(drawn, o)
	}
	return drawn
}

func (s space) op(choose chooser, unknown bool) op {
	o := op{verb: verb(choose(int(verbs))), value: fmt.Sprint(choose(1000))}
	plain := s.in("plain", choose(perFamily))
	switch o.verb {
	case opGet:
		o.key = s.readable(choose, unknown)
	case opGetRange:
		o.where, o.options = s.readableRange(choose, unknown), options(choose)
	case opSet:
		o.key = plain
	case opClear:
		o.where = s.someRange(choose)
	case opAdd:
		o.key, o.delta = s.in("counter", choose(perFamily)), int64(choose(9)-4)
	case opAppend:
		o.key = s.in("queue", choose(2))
	case opStamp:
		o.key = s.in("stamp", choose(2))
	}
	return o
}

// known are the families that can be read at any time.
func known() []string { return []string{"counter", "plain"} }

func (s space) readable(choose chooser, unknown bool) backend.Key {
	if !unknown && choose(4) == 0 {
		return s.in("stamp", choose(2))
	}
	return s.in(known()[choose(2)], choose(perFamily))
}

func (s space) readableRange(choose chooser, unknown bool) backend.Range {
	if !unknown {
		return s.someRange(choose)
	}
	family := known()[choose(2)]
	return backend.Range{Begin: s.in(family, choose(perFamily)), End: s.in(family, choose(perFamily+1))}
}

// someRange is all keys, a family, or a part of one; some are empty.
func (s space) someRange(choose chooser) backend.Range {
	family := []string{"counter", "plain", "queue", "stamp"}[choose(families)]
	switch choose(4) {
	case 0:
		return s.root.Tree()
	case 1:
		return s.root.Str(family).Below()
	case 2:
		return s.in(family, choose(perFamily)).Tree()
	}
	return backend.Range{Begin: s.in(family, choose(perFamily)), End: s.in(family, choose(perFamily+1))}
}

func options(choose chooser) (o backend.RangeOptions) {
	if choose(2) == 0 {
		o.Limit = choose(4)
	}
	if choose(4) == 0 {
		o.Bytes = choose(60)
	}
	o.Reverse = choose(3) == 0
	return o
}
