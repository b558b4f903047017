// Package statediff turns a Go value into rows, and a changed value into the fewest edits of the rows that were committed
// before. It is pure: it knows CBOR and the tuple encoding of keys, and no store.
package statediff
