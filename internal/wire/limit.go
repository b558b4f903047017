package wire

import "math"

const (
	// MaxNesting is how many arrays, maps and tags a value may have within one another.
	MaxNesting = 256

	// recordNesting is MaxNesting and what the library's own records have around a value, with room for those of a later
	// version.
	recordNesting = MaxNesting + 16

	// salvageNesting is what a record may have of which only a part is read. The CBOR library knows no higher limit.
	salvageNesting = 65535

	// maxElements is no limit of its own: an element takes a byte at least, and bytes are limited by who stores them.
	maxElements = math.MaxInt32
)
