package display

import (
	"fmt"
	"strconv"
	"strings"
)

// Place is a place in a state, the names of its fields, keys and items with slashes between them.
type Place []string

// UnmarshalText makes a mistake in it one of the command line.
func (p *Place) UnmarshalText(text []byte) error {
	*p = nil
	for rest := string(text); ; {
		if !strings.HasPrefix(rest, `"`) {
			name, more, found := strings.Cut(rest, "/")
			*p = append(*p, name)
			if rest = more; !found {
				return nil
			}
			continue
		}
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return fmt.Errorf("%s begins with a quote, and is no Go string", Visible(rest))
		}
		name, err := strconv.Unquote(quoted)
		if err != nil {
			return err
		}
		*p = append(*p, name)
		if rest = rest[len(quoted):]; rest == "" {
			return nil
		}
		if rest[0] != '/' {
			return fmt.Errorf("%s: a slash comes between names", Visible(string(text)))
		}
		rest = rest[1:]
	}
}

// String is how it is shown, and taken.
func (p Place) String() string {
	names := make([]string, len(p))
	for i, name := range p {
		if names[i] = Quoted(name); names[i] == name && strings.Contains(name, "/") {
			names[i] = strconv.Quote(name)
		}
	}
	return strings.Join(names, "/")
}

// In finds the place in a state.
func (p Place) In(v any) (any, error) {
	for i, name := range p {
		var found bool
		switch all := v.(type) {
		case map[string]any:
			v, found = all[name]
		case []any:
			if n, err := strconv.Atoi(name); err == nil && n >= 0 && n < len(all) {
				v, found = all[n], true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is nothing at %v; what is zero is not stored", p[:i+1])
		}
	}
	return v, nil
}
