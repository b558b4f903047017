package statediff

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// shownBytes is the most of a value that String shows.
const shownBytes = 64

// String renders the rows for people, a line each: the path, and the value in CBOR's diagnostic notation.
func (r *Rows) String() string {
	var b strings.Builder
	for i := range r.list {
		fmt.Fprintf(&b, "%s = %s\n", Path(r.list[i].key()), notation(r.list[i].value()))
	}
	return b.String()
}

// notation renders a value; one that is large, or cut, only by its beginning.
func notation(value string) string {
	if len(value) <= shownBytes {
		if text, err := cbor.Diagnose([]byte(value)); err == nil {
			return text
		}
		return hex.EncodeToString([]byte(value))
	}
	if text, err := cbor.Diagnose([]byte(value)); err == nil && len(text) <= 2*shownBytes {
		return text
	}
	return fmt.Sprintf("%x... (%d bytes)", value[:shownBytes/4], len(value))
}
