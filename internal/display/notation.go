package display

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/internal/wire"
)

// CBOR's diagnostic notation (RFC 8949, section 8) says what JSON cannot: bytes, times and other tags, numbers of every size and
// precision, keys that are no text. Notation writes it, and ParseNotation reads what Notation writes, and nothing else: white
// space may stand between tokens, and text may have letters as they are.

// diagnoser writes notation, with the precision of each float.
var diagnoser = func() cbor.DiagMode {
	mode, err := cbor.DiagOptions{
		FloatPrecisionIndicator: true,
		MaxNestedLevels:         maxNesting, MaxArrayElements: maxElements, MaxMapPairs: maxElements,
	}.DiagMode()
	if err != nil {
		panic("dserver: " + err.Error()) // the options above are wrong
	}
	return mode
}()

// Notation is a value as people read it, on many lines. Text that is no UTF-8 is an error: the notation has none.
func Notation(body []byte) (string, error) {
	text, err := diagnoser.Diagnose(body)
	return indentNotation(text), err
}

// indentNotation puts each element of arrays and maps on a line of its own.
func indentNotation(text string) string {
	var b strings.Builder
	depth := 0
	line := func() { b.WriteString("\n" + strings.Repeat("  ", depth)) }
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"', '\'':
			end := i + 1
			for end < len(text)-1 && text[end] != c {
				if text[end] == '\\' {
					end++
				}
				end++
			}
			b.WriteString(text[i : end+1])
			i = end
		case '[', '{':
			b.WriteByte(c)
			if strings.HasPrefix(text[i+1:], "_ ") {
				b.WriteString("_")
				i += 2
			}
			if i+1 < len(text) && (text[i+1] == ']' || text[i+1] == '}') {
				i++
				b.WriteByte(text[i])
				continue
			}
			depth++
			line()
		case ']', '}':
			depth--
			line()
			b.WriteByte(c)
		case '(':
			if strings.HasPrefix(text[i:], "(_ ") { // the parts of a string stay together
				b.WriteString(chunksIn(text[i:]))
				i += len(chunksIn(text[i:])) - 1
				continue
			}
			b.WriteByte(c)
		case ',':
			b.WriteByte(c)
			line()
			i++ // the space behind it
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// chunksIn is the string in parts with which a text begins.
func chunksIn(text string) string {
	for i, quote := 0, byte(0); i < len(text); i++ {
		switch c := text[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && c == ')':
			return text[:i+1]
		}
	}
	return text
}

// ParseNotation is the value that a text says, in the shortest form of its numbers.
func ParseNotation(text string) (body []byte, err error) {
	p := &notationParser{text: text}
	if body, err = p.item(nil, 0); err == nil {
		if p.space(); p.at < len(text) {
			err = errors.New("something follows the value")
		}
	}
	if err != nil {
		line := 1 + strings.Count(text[:p.at], "\n")
		return nil, fmt.Errorf("not CBOR diagnostic notation: line %d, column %d: %w", line, p.at-strings.LastIndexByte(text[:p.at], '\n'), err)
	}
	return body, nil
}

type notationParser struct {
	text string
	at   int
}

// The major types of CBOR, and its break.
const (
	majorUint   = 0 << 5
	majorInt    = 1 << 5
	majorBytes  = 2 << 5
	majorText   = 3 << 5
	majorArray  = 4 << 5
	majorMap    = 5 << 5
	majorTag    = 6 << 5
	majorSimple = 7 << 5

	indefinite = 31
	breakCode  = majorSimple | indefinite

	float16Head = majorSimple | 25
	float32Head = majorSimple | 26
	float64Head = majorSimple | 27
)

func (p *notationParser) rest() string { return p.text[p.at:] }

func (p *notationParser) space() {
	p.at = len(p.text) - len(strings.TrimLeft(p.rest(), " \t\r\n"))
}

// takes reads a token, if it is next.
func (p *notationParser) takes(token string) bool {
	if !strings.HasPrefix(p.rest(), token) {
		return false
	}
	p.at += len(token)
	return true
}

// takesAfterSpace is takes of what may have space before it.
func (p *notationParser) takesAfterSpace(token string) bool {
	p.space()
	return p.takes(token)
}

// namedValues is values that are a word.
var namedValues = map[string][]byte{
	"false": {0xf4}, "true": {0xf5}, "null": {0xf6}, "undefined": {0xf7},
	"NaN": {float16Head, 0x7e, 0x00}, "Infinity": {float16Head, 0x7c, 0x00}, "-Infinity": {float16Head, 0xfc, 0x00},
	"''_": {majorBytes | indefinite, breakCode}, `""_`: {majorText | indefinite, breakCode},
}

// item reads one value, and appends it to b.
func (p *notationParser) item(b []byte, depth int) ([]byte, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("values are nested more than %d deep", maxNesting)
	}
	p.space()
	for word, value := range namedValues {
		if p.takes(word) {
			return append(b, value...), nil
		}
	}
	switch {
	case p.takes("[_"):
		return p.open(b, majorArray, "]", depth)
	case p.takes("{_"):
		return p.open(b, majorMap, "}", depth)
	case p.takes("(_"):
		return p.chunks(b)
	case p.takes("["):
		return p.counted(b, majorArray, "]", depth)
	case p.takes("{"):
		return p.counted(b, majorMap, "}", depth)
	case p.takes("simple("):
		return p.simple(b)
	case p.at == len(p.text):
		return nil, errors.New("a value is missing")
	}
	if c := p.text[p.at]; c == '"' || strings.HasPrefix(p.rest(), "h'") {
		return p.str(b)
	} else if c != '-' && (c < '0' || c > '9') {
		return nil, errors.New("no value begins so")
	}
	return p.number(b, depth)
}

// open is an array or a map without its length.
func (p *notationParser) open(b []byte, major byte, end string, depth int) ([]byte, error) {
	b, _, err := p.elements(append(b, major|indefinite), major, end, depth)
	return append(b, breakCode), err
}

// counted is one with its length, which is known behind it.
func (p *notationParser) counted(b []byte, major byte, end string, depth int) ([]byte, error) {
	elements, n, err := p.elements(nil, major, end, depth)
	return append(wire.AppendHead(b, major, n), elements...), err
}

func (p *notationParser) elements(b []byte, major byte, end string, depth int) (_ []byte, n uint64, err error) {
	if p.takesAfterSpace(end) {
		return b, 0, nil
	}
	for {
		if b, err = p.item(b, depth+1); err != nil {
			return nil, 0, err
		}
		if major == majorMap {
			if !p.takesAfterSpace(":") {
				return nil, 0, errors.New("a colon comes behind a key")
			}
			if b, err = p.item(b, depth+1); err != nil {
				return nil, 0, err
			}
		}
		if n++; n > maxElements {
			return nil, 0, fmt.Errorf("more than %d elements", maxElements)
		}
		switch {
		case p.takesAfterSpace(end):
			return b, n, nil
		case !p.takes(","):
			return nil, 0, fmt.Errorf("a comma or %s comes behind an element", end)
		}
	}
}

// chunks is a string in parts, all of which are bytes, or text.
func (p *notationParser) chunks(b []byte) ([]byte, error) {
	var all []byte
	major := byte(0)
	for {
		p.space()
		part, err := p.str(nil)
		if err != nil {
			return nil, err
		}
		if is := part[0] & majorSimple; major == 0 {
			major = is
		} else if is != major {
			return nil, errors.New("a string has parts of text, or of bytes, not both")
		}
		all = append(all, part...)
		switch {
		case p.takesAfterSpace(")"):
			return append(append(append(b, major|indefinite), all...), breakCode), nil
		case !p.takes(","):
			return nil, errors.New("a comma or ) comes behind a part of a string")
		}
	}
}

func (p *notationParser) str(b []byte) ([]byte, error) {
	switch {
	case p.takes("h'"):
		digits, _, found := strings.Cut(p.rest(), "'")
		if !found {
			return nil, errors.New("bytes have no end")
		}
		value, err := hex.DecodeString(digits)
		if err != nil {
			return nil, errors.New("bytes are written as pairs of hexadecimal digits, without space")
		}
		p.at += len(digits) + 1
		return append(wire.AppendHead(b, majorBytes, uint64(len(value))), value...), nil
	case p.takes(`"`):
		value, err := p.text1()
		return append(wire.AppendHead(b, majorText, uint64(len(value))), value...), err
	}
	return nil, errors.New("text in double quotes, or bytes as h'00', are missing")
}

// escapes is what stands behind a backslash, but for u.
var escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// text1 is the rest of a text, behind its first quote.
func (p *notationParser) text1() (string, error) {
	var b strings.Builder
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return b.String(), nil
		case c == '\\' && p.at+1 < len(p.text):
			p.at++
			if escaped, ok := escapes[p.text[p.at]]; ok {
				b.WriteByte(escaped)
				p.at++
				continue
			}
			r, err := p.escapedRune()
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
		case c < ' ':
			return "", errors.New(`a control character in a text is written as \n or \u0000`)
		default:
			r, n := utf8.DecodeRuneInString(p.rest())
			if r == utf8.RuneError && n == 1 {
				return "", errors.New("a text is no UTF-8")
			}
			b.WriteRune(r)
			p.at += n
		}
	}
	return "", errors.New("a text has no end")
}

// escapedRune is a letter by its number, or two of UTF-16.
func (p *notationParser) escapedRune() (rune, error) {
	r, err := p.hex4()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if p.takes(`\`) {
		second, err := p.hex4()
		if r = utf16.DecodeRune(r, second); err == nil && r != utf8.RuneError {
			return r, nil
		}
	}
	return 0, errors.New("half of a letter of UTF-16 is missing")
}

func (p *notationParser) hex4() (rune, error) {
	if digits := p.rest(); len(digits) >= 5 && digits[0] == 'u' {
		if n, err := strconv.ParseUint(digits[1:5], 16, 16); err == nil {
			p.at += 5
			return rune(n), nil
		}
	}
	return 0, errors.New(`no such escape in a text: \u0041 has four hexadecimal digits`)
}

// digits reads some.
func (p *notationParser) digits() string {
	from := p.at
	for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
		p.at++
	}
	return p.text[from:p.at]
}

// number is an integer, a float, or a tag with its content.
func (p *notationParser) number(b []byte, depth int) ([]byte, error) {
	from := p.at
	negative := p.takes("-")
	digits := p.digits()
	if digits == "" || len(digits) > 1 && digits[0] == '0' {
		return nil, errors.New("a number has digits, and none of 0 before others")
	}
	switch {
	case p.takes("."):
		return p.float(b, from)
	case !negative && p.takes("("):
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil {
			return nil, errors.New("a tag is a number of at most 64 bits")
		}
		if b, err = p.item(wire.AppendHead(b, majorTag, n), depth+1); err == nil && !p.takesAfterSpace(")") {
			err = errors.New(") comes behind what has a tag")
		}
		return b, err
	case negative && digits == "0":
		return nil, errors.New("-0 is no integer: write -0.0, or 0")
	}
	n, ok := new(big.Int).SetString(digits, 10)
	if !ok {
		return nil, errors.New("no number")
	}
	return appendInt(b, n, negative), nil
}

// appendInt writes an integer, or the tag of a large one.
func appendInt(b []byte, n *big.Int, negative bool) []byte {
	major, tag := byte(majorUint), uint64(2)
	if negative {
		major, tag = majorInt, 3
		n.Sub(n, big.NewInt(1)) // CBOR counts from -1
	}
	if n.IsUint64() {
		return wire.AppendHead(b, major, n.Uint64())
	}
	return append(wire.AppendHead(wire.AppendHead(b, majorTag, tag), majorBytes, uint64(len(n.Bytes()))), n.Bytes()...)
}

// float is what follows the point of a number that began there.
func (p *notationParser) float(b []byte, from int) ([]byte, error) {
	if p.digits() == "" {
		return nil, errors.New("digits come behind the point")
	}
	if p.takes("e") {
		if !p.takes("+") {
			p.takes("-")
		}
		if p.digits() == "" {
			return nil, errors.New("digits come behind the e")
		}
	}
	f, err := strconv.ParseFloat(p.text[from:p.at], 64)
	if err != nil {
		return nil, errors.New("a float of more than 64 bits")
	}
	switch {
	case p.takes("_1"):
		short, err := shortest.Marshal(f)
		if err != nil || short[0] != float16Head {
			return nil, errors.New("this float needs more than 16 bits: leave _1 away")
		}
		return append(b, short...), nil
	case p.takes("_2"):
		if float64(float32(f)) != f {
			return nil, errors.New("this float needs more than 32 bits: leave _2 away")
		}
		return binary.BigEndian.AppendUint32(append(b, float32Head), math.Float32bits(float32(f))), nil
	}
	p.takes("_3")
	return binary.BigEndian.AppendUint64(append(b, float64Head), math.Float64bits(f)), nil
}

// shortest writes a float in as few bits as have it.
var shortest = func() cbor.EncMode {
	mode, err := cbor.EncOptions{ShortestFloat: cbor.ShortestFloat16}.EncMode()
	if err != nil {
		panic("dserver: " + err.Error()) // the options above are wrong
	}
	return mode
}()

// simple is a simple value that has no name.
func (p *notationParser) simple(b []byte) ([]byte, error) {
	n, err := strconv.ParseUint(p.digits(), 10, 8)
	if err != nil || n >= 20 && n < 32 || !p.takes(")") {
		return nil, errors.New("a simple value is a number from 0 to 19, or from 32 to 255")
	}
	return wire.AppendHead(b, majorSimple, n), nil
}
