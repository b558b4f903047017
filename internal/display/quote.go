package display

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What is stored is anybody's bytes: ids, names of messages, codes, texts. None of it reaches a terminal as it is, where
// it could move the cursor, turn the direction of what follows, or make rows that are none.
//
// A name is shown as it is when all of it can be seen. Else it is quoted as a Go string, as an argument is taken, too:
// what is shown can be given back, whatever bytes it has. A server's name is shown as a word of a shell, in single quotes where
// it has to be: what is shown can be typed. Other texts have only what cannot be seen escaped.

// Quoted is a name as it is shown, and as an argument takes it.
func Quoted(name string) string {
	if name == "" || name[0] == '"' || name[0] == '-' || name[0] == ' ' || name[len(name)-1] == ' ' || !isVisible(name) {
		return strconv.Quote(name)
	}
	return name
}

// Word is a name as a shell takes it as one argument. What has a single quote is a Go string, in which there is none.
func Word(name string) string {
	shown := Quoted(name)
	switch {
	case strings.IndexFunc(shown, isSpecial) < 0 && shown != "":
		return shown
	case strings.Contains(shown, "'"):
		shown = strings.ReplaceAll(strconv.Quote(name), "'", `\x27`)
	}
	return "'" + shown + "'"
}

// isSpecial reports whether a letter may mean something to a shell.
func isSpecial(r rune) bool {
	isPlain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r > utf8.RuneSelf && strconv.IsPrint(r)
	return !isPlain && !strings.ContainsRune("_-./:@%+,", r)
}

// Unquoted reads what Quoted and Word return, whether or not a shell has taken the single quotes away.
func Unquoted(text string) (string, error) {
	if len(text) > 1 && text[0] == '\'' && text[len(text)-1] == '\'' {
		text = text[1 : len(text)-1]
	}
	if !strings.HasPrefix(text, `"`) {
		return text, nil
	}
	name, err := strconv.Unquote(text)
	if err != nil {
		return "", fmt.Errorf("%s begins with a quote, and is no Go string: write \" within it as \\\"", Visible(text))
	}
	return name, nil
}

func isVisible(s string) bool {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

// Visible is a text on one line, in which what cannot be seen is escaped as in a Go string.
func Visible(s string) string {
	if isVisible(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if isVisible(s[:n]) {
			b.WriteRune(r)
		} else {
			escaped := strconv.Quote(s[:n])
			b.WriteString(escaped[1 : len(escaped)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// JSONName is a name in JSON: as it is, or quoted where JSON could not say it, or it would look so.
func JSONName(name string) string {
	if !utf8.ValidString(name) || strings.HasPrefix(name, `"`) || strings.HasPrefix(name, "'") {
		return strconv.Quote(name)
	}
	return name
}

// JSONText is another text in JSON, quoted where JSON could not say it.
func JSONText(s string) string {
	if !utf8.ValidString(s) {
		return strconv.Quote(s)
	}
	return s
}

// escapeJSON escapes what cannot be seen in JSON, which leaves it in its strings.
func escapeJSON(encoded string) string {
	var b strings.Builder
	for _, r := range encoded {
		switch {
		case r == '\n' || strconv.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
