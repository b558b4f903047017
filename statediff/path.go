package statediff

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"github.com/dserver-go/dserver/internal/chunk"
	"github.com/dserver-go/dserver/internal/tuple"
)

// The first bytes of the tuple elements that keys of rows are made of.
const (
	codeNil    = 0x00
	codeBytes  = 0x01
	codeString = 0x02
	codeZero   = 0x14 // an integer of n bytes is n above, a negative one n below
	escape     = 0xff // follows a zero byte that belongs to a string
)

// appendPart appends the tuple element of row i, from 1, of a large value: a byte string, which nothing else has here.
// It sorts behind the place in a list and ahead of all fields, so that these rows follow the first one.
func appendPart(key []byte, i int) []byte {
	return tuple.AppendBytes(key, []byte{byte(i)})
}

// One byte numbers the rows of a large value.
const _ = uint8(chunk.MaxBytes/chunk.Bytes + 2)

// elementLen returns the length of the first tuple element of key, 0 when it is none of those that rows have.
func elementLen(key string) int {
	if key == "" {
		return 0
	}
	switch code := int(key[0]); {
	case code == codeNil:
		return 1
	case code == codeBytes || code == codeString:
		return stringLen(key)
	case code >= codeZero-8 && code <= codeZero+8:
		n := 1 + max(code-codeZero, codeZero-code)
		if n > len(key) {
			return 0
		}
		return n
	}
	return 0
}

func stringLen(key string) int {
	for i := 1; ; {
		zero := strings.IndexByte(key[i:], 0)
		if zero < 0 {
			return 0
		}
		i += zero + 1
		if i == len(key) || key[i] != escape {
			return i
		}
		i++
	}
}

// isBelow tells whether key is that of prefix or below it.
func isBelow(key, prefix string) bool {
	return strings.HasPrefix(key, prefix) && (len(key) == len(prefix) || key[len(prefix)] != below)
}

// Path renders a row's key for people: fields by name, keys of maps and ids of lists in brackets where they are not
// plain words, the place in a list as #, further rows of a large value as +1, +2. It is not meant to be parsed.
func Path(key string) string {
	elements, err := tuple.Decode([]byte(key))
	if err != nil {
		return strconv.Quote(key)
	}
	if len(elements) == 0 {
		return "."
	}
	var b strings.Builder
	for _, e := range elements {
		switch e := e.(type) {
		case string:
			if isWord(e) {
				b.WriteString("." + e)
			} else {
				b.WriteString("[" + strconv.Quote(e) + "]")
			}
		case nil:
			b.WriteString("#")
		case []byte:
			fmt.Fprintf(&b, "+%x", e)
		default:
			fmt.Fprintf(&b, "[%v]", e)
		}
	}
	return strings.TrimPrefix(b.String(), ".")
}

// pathInErrors is the most of a path that an error shows.
const pathInErrors = 200

// placed adds the place to an error; a nil type is not known.
func placed(t reflect.Type, key string, err error) error {
	path := Path(key)
	if len(path) > pathInErrors {
		path = path[:pathInErrors] + "..."
	}
	if t == nil {
		return fmt.Errorf("statediff: %s: %w", path, err)
	}
	return fmt.Errorf("statediff: %v: %s: %w", t, path, err)
}

func isWord(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' && r != '-'
	}) < 0
}
