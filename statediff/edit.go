package statediff

// Edit is one write: it sets Key to Value, or it clears. Keys are relative to the state's root.
type Edit struct {
	Key   string
	Value []byte // when Clear is None
	Clear Scope
	aside bool // of a collection that is bound to a Loader: Rows do not have its rows

	base uint32 // the serial of the schema that decodes the value and encodes it again to the same; 0: none is known
	sum  uint64 // of the value, if base is not 0; 0: none is known
}

// Scope is what an Edit clears.
type Scope uint8

const (
	None Scope = iota // nothing: the edit sets
	Only              // the key
	Tree              // the key and all below it
)

// below is greater than the first byte of every tuple element and ends the keys below a key. It is not 0xff alone by
// chance: a zero byte within a string is written 00 ff, so a longer string's key goes on with ff after a shorter one's.
const below = 0xff

// Range returns the keys that a clearing edit covers: from begin up to, without, end.
func (e Edit) Range() (begin, end string) {
	if e.Clear == Tree {
		return e.Key, e.Key + string([]byte{below})
	}
	return e.Key, e.Key + "\x00"
}
