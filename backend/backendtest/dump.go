package backendtest

import (
	"context"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/backend"
)

// Show tells how Dump shows a value that is not CBOR; false leaves it to the next Show, or to Dump.
type Show func(key backend.Key, value []byte) (text string, ok bool)

// Counters is a Show for what Add wrote: the numbers at the keys that are counters.
func Counters(isCounter func(key backend.Key) bool) Show {
	return func(key backend.Key, value []byte) (string, bool) {
		n, err := backend.Counter(value)
		return strconv.FormatInt(n, 10), err == nil && isCounter(key)
	}
}

// Dump returns all that db has as text, for goldens: a line per pair in key order, the key as a tuple, the value as the
// first of these that fits: what a Show says; CBOR in diagnostic notation; a versionstamp; hexadecimal digits. Of long
// values only the beginning is shown, with the length.
//
//	("q", #1.1) = {"n": 5}
//
// Versionstamps, in keys and in values, are replaced by ordinals, so that the text is the same for each run and store:
// #2 is the second of the commits whose stamps are found, and #2.1 its Append number 1.
func Dump(ctx context.Context, db backend.Database, shows ...Show) (string, error) {
	var pairs []backend.KeyValue
	err := db.Read(ctx, func(tx backend.ReadTx) (err error) {
		pairs, err = tx.GetRange(wholeStore(), backend.RangeOptions{}).Get()
		return err
	})
	if err != nil {
		return "", fmt.Errorf("backendtest: dump: %w", err)
	}
	// Versionstamps among CBOR's byte strings: those of 12 bytes whose commit has a number below 2^48, as in any store.
	inCBOR := regexp.MustCompile(`h'(0000[0-9a-f]{20})'`)
	var text strings.Builder
	for _, p := range pairs {
		text.WriteString(keyText(p.Key))
		if len(p.Value) > 0 {
			text.WriteString(" = " + cut(valueText(p, shows, inCBOR), len(p.Value)))
		}
		text.WriteString("\n")
	}
	return withOrdinals(text.String()), nil
}

// stampMark marks a versionstamp until its ordinal is known. It occurs in no other text, as that is quoted or digits.
const stampMark = "\x00"

func stampText(stamp backend.Versionstamp) string { return stampMark + stamp.String() }

func keyText(key backend.Key) string {
	elements, err := key.Elements()
	if err != nil {
		return strconv.Quote(string(key))
	}
	words := make([]string, len(elements))
	for i, e := range elements {
		switch e := e.(type) {
		case string:
			words[i] = strconv.Quote(e)
		case []byte:
			words[i] = hexText(e)
		case backend.Versionstamp:
			words[i] = stampText(e)
		default:
			words[i] = fmt.Sprint(e)
		}
	}
	return "(" + strings.Join(words, ", ") + ")"
}

func valueText(p backend.KeyValue, shows []Show, inCBOR *regexp.Regexp) string {
	for _, show := range shows {
		if text, ok := show(p.Key, p.Value); ok {
			return text
		}
	}
	if text, err := cbor.Diagnose(p.Value); err == nil {
		return inCBOR.ReplaceAllString(text, stampMark+"$1")
	}
	if stamp, err := backend.StampOf(p.Value); err == nil {
		return stampText(stamp)
	}
	return hexText(p.Value)
}

func hexText(b []byte) string { return "x" + hex.EncodeToString(b) }

// cut leaves the beginning of a long text, without half a letter or half a stamp.
func cut(text string, bytes int) string {
	const most, stampLen = 240, len(stampMark) + 2*len(backend.Versionstamp{})
	if len(text) <= most {
		return text
	}
	end := most
	if mark := strings.LastIndex(text[:most], stampMark); mark > most-stampLen {
		end = mark
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(text[:end], ""), bytes)
}

// withOrdinals replaces the marked stamps.
func withOrdinals(text string) string {
	marked := regexp.MustCompile(stampMark + `[0-9a-f]{24}`)
	var commits []backend.Versionstamp
	for _, mark := range marked.FindAllString(text, -1) {
		commits = append(commits, markedStamp(mark).WithOrder(0))
	}
	slices.SortFunc(commits, backend.Versionstamp.Compare)
	commits = slices.Compact(commits)
	return marked.ReplaceAllStringFunc(text, func(mark string) string {
		stamp := markedStamp(mark)
		commit, _ := slices.BinarySearchFunc(commits, stamp.WithOrder(0), backend.Versionstamp.Compare)
		if order := int(stamp[10])<<8 | int(stamp[11]); order > 0 {
			return fmt.Sprintf("#%d.%d", commit+1, order)
		}
		return fmt.Sprintf("#%d", commit+1)
	})
}

// markedStamp is never wrong: the pattern has found 24 digits.
func markedStamp(mark string) backend.Versionstamp {
	stamp, _ := backend.ParseVersionstamp(strings.TrimPrefix(mark, stampMark))
	return stamp
}
