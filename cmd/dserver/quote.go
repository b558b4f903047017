package main

import (
	"fmt"
	"strings"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
)

// Names and values as package display has them: nothing reaches a terminal raw.
var (
	quoted   = display.Quoted
	unquoted = display.Unquoted
	word     = display.Word
	visible  = display.Visible
	namesOf  = display.NamesOf
	jsonName = display.JSONName
	jsonText = display.JSONText

	decodeBody = display.Decode
	encodeBody = display.Encode
	readable   = display.Readable

	notation      = display.Notation
	parseNotation = display.ParseNotation

	plain    = display.Plain
	compact  = display.Compact
	indented = display.Indented
	shorten  = display.Shorten
)

// shownLines is visible with its lines, below each other and indented, so that none of them looks like another row.
func shownLines(s string) block {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = "  " + visible(strings.ReplaceAll(line, "\t", "    "))
	}
	return block("\n" + strings.Join(lines, "\n"))
}

// block is lines that are made for a terminal.
type block string

// shownValue is a value as it is shown in a line or a cell.
func shownValue(v any) any {
	switch v := v.(type) {
	case block:
		return v
	case dserver.Ref:
		return word(v.String())
	case server:
		return v.String()
	case error:
		return visible(v.Error())
	case fmt.Stringer:
		return visible(v.String())
	case string:
		return visible(v)
	}
	return v
}

// text is an argument that names something.
type text string

// UnmarshalText makes a mistake in it one of the command line.
func (t *text) UnmarshalText(b []byte) error {
	name, err := unquoted(string(b))
	*t = text(name)
	return err
}
