package display

import (
	"strconv"
	"strings"
)

// NamesOf lists names so that none looks like two, and none is missed.
func NamesOf(all []string) string {
	if len(all) == 0 {
		return "unknown"
	}
	names := make([]string, len(all))
	for i, name := range all {
		if names[i] = Quoted(name); names[i] == name && (strings.Contains(name, ",") || name == "") {
			names[i] = strconv.Quote(name)
		}
	}
	return strings.Join(names, ", ")
}
