// Package statediff turns a Go value into rows, and a changed value into the fewest edits of the rows that were committed
// before. It is pure: it knows CBOR and the tuple encoding of keys, and no store.
//
// A program of durable servers uses three things of it: the rules below for the fields of a state, with their tags; and
// the types [Map] and [List], for collections too large to load for each message. The rest ([For], [Schema], [Rows],
// [Edit], [Loader]) is what package dserver does with a state, and is of use where values are to be kept in another store
// in the same way.
//
//	          Schema: how values of one Go type become rows
//	             │
//	value ──── Diff(committed rows, value) ──── edits ──── the store's transaction
//	  ▲          ▲                                │
//	  │          │                            Apply, after the commit
//	Decode ── committed rows ◄────────────────────┘
//
// The comparison is between the committed rows, as bytes, and the new value, never with an older value that is still in
// use: what a handler did to its copy before it failed cannot leave a trace. Of 128 rows and more, a value that was equal to
// its row is recognized by a sum of 64 bits (decision 0024).
//
// # What becomes of a field
//
//	struct                          a key per exported field, recursively; fields of embedded structs are promoted
//	map of strings, integers, or    a key per entry
//	types that marshal to text
//	[]T, T or *T a struct with a    a key per item and a key for its place in the order: inserting is two edits, moving,
//	field tagged `dserver:"id"`     changing and deleting one, however long the list
//	*T, T a struct                  a key that says that it is not nil, and the fields below it
//	Map, List                       as a map; entries are loaded when asked for
//	types that marshal themselves   one value
//	what holds its own type again   one value, as a comment that holds its replies: its rows would be nested as deep as the
//	                                value is, and their keys could become too long
//	all else                        one value
//
// A value is encoded in CBOR, deterministically, and cut into several rows when it is large, at most 4 MiB. An entry of
// a map is one row with all that is in it, and so is an item of a list. Only a map within it, or a list with ids, has
// rows of its own, below that row: in a map of orders, an order is one row, and each of its lines, if lines have ids, is
// another.
// A field that is zero has no row; entries and items always have one. So a zero state has no rows at all.
//
// A type whose values could not be read back is refused by For. What is read back is equal to what was stored, with
// these exceptions: nil and empty slices and maps are the same (maps are never nil, slices that are empty are nil),
// times are in UTC, to the nanosecond, and two pointers to one value are pointers to two.
//
// # Tags
//
//	`dserver:"name"`     the field is stored under this name; else under that of a cbor tag, a json tag, its own
//	`dserver:"-"`        it is not stored and is zero when the state is read
//	`dserver:",whole"`   it is one value
//	`dserver:"id"`       it is the id of the items of a list, a string or an integer; with a name: `dserver:"name,id"`
//
// Within one value the names are the CBOR library's, except those of the fields of an entry or item themselves. A dserver
// tag that would have no effect there is refused.
//
// # When types change
//
// A field that was added is zero in older states, and is written where something is changed. What is stored and a type
// does not have, be it rows or fields inside of a value, is ignored by Decode and left as it is by Diff, for as long as
// the entry, item or value that has it exists: an older program does not harm what a newer one wrote. Entries are
// recognized by their keys, items by their ids, and items of a List wherever they are moved. Elements of a slice without
// ids are recognized when they are equal; between equal ones they are recognized by their index, if no element was
// inserted or removed there. Of an element that is not recognized, the fields that this type does not have are removed.
// Rewrite clears what an older type had and this one has not.
//
// Decode refuses rows of another shape than the field has now, such as those of a map where there is one value: nothing is
// dropped unasked. A plain map can become a Map and back, and a map of structs a list with ids, in the order of the keys.
//
// What a type's own methods write is decoded and encoded again before Diff returns it, and must give the same bytes.
//
// # Tracked collections
//
// Map and List are for collections too large to compare for each message. They load entries through a Loader and record
// what is done to them. A turn, for a type for which Tracks is true,
//
//  1. loads Ranges, which leave their rows out, into Rows;
//  2. decodes the value, or makes a new one, and binds it to a Loader that reads in the turn's transaction;
//  3. lets handlers change it, and asks for Diff, whose edits are those of the collections too;
//  4. after the commit gives the edits to Apply, which leaves out those of bound collections;
//  5. binds the value anew for the next turn, or drops it.
//
// After a failed handler the value is dropped: what a collection recorded cannot be taken back by decoding Rows, so
// messages before the failed one in the same turn are to be handled again. A Query binds a value to a Loader that reads
// its snapshot. Without Bind all entries are in memory: Decode takes them from Rows when their rows were loaded as well,
// and a handler can be tested without a store.
package statediff
