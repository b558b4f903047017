package main

import (
	"fmt"
	"os"
)

// Colour is for what needs a person, and for nothing else: trouble, errors, dead letters.
const (
	red   = "\x1b[31m"
	usual = "\x1b[39m" // as long as red, so that a column in which some are red stays a column
)

// alarm is a value that needs a person, if isBad.
type alarm struct {
	value any
	isBad bool
}

// bad is one that does.
func bad(value any) alarm { return alarm{value, true} }

// some is a number of things none of which should be there.
func some[N int | int64](n N) alarm { return alarm{n, n > 0} }

// shown is a value as it is shown, with its colour.
func (p printer) shown(v any) any {
	a, isAlarm := v.(alarm)
	switch {
	case !isAlarm:
		return shownValue(v)
	case !p.color:
		return shownValue(a.value)
	}
	return paint(shownValue(a.value), a.isBad)
}

func paint(v any, isBad bool) string {
	if isBad {
		return red + fmt.Sprint(v) + usual
	}
	return usual + fmt.Sprint(v) + usual
}

// isColored reports whether a file gets colours: at a terminal that has some, unless NO_COLOR says otherwise, or as --color says.
func isColored(choice string, w any) bool {
	if choice != "auto" {
		return choice == "always"
	}
	file, isFile := w.(*os.File)
	return isFile && isTerminal(file) && os.Getenv("TERM") != "dumb" && os.Getenv("NO_COLOR") == ""
}
