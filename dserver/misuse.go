package dserver

import (
	"fmt"
	"runtime"
	"strings"
	"sync"

	"github.com/rs/zerolog"
)

// misuses logs what handlers ask of a Context after its turn, once for each place in the program that does: a goroutine
// that kept the Context would otherwise believe that it had sent something. A panic would end its process, which is worse
// than the mistake.
type misuses struct {
	log  zerolog.Logger
	seen sync.Map // places -> nothing
}

// late notes that a Context was used when its turn was over.
func (c *Context) late() {
	if c.turn == nil {
		return
	}
	m, ok := c.turn.Value(turnKey{}).(*misuses)
	if !ok {
		return // a Query's, of which nothing would come in its time either
	}
	function, place := callerOutside()
	if _, known := m.seen.LoadOrStore(place, nil); !known {
		m.log.Error().Stringer(logServer, c.self).Str(logFunction, function).Str(logPlace, place).
			Msg("a Context was used after its handler's turn: what it was asked for does not happen")
	}
}

// callerOutside is the innermost function, and the place in it, that is not of this package.
func callerOutside() (function, place string) {
	var counters [16]uintptr
	frames := runtime.CallersFrames(counters[:runtime.Callers(2, counters[:])])
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		if !strings.HasPrefix(f.Function, ownFunctions) {
			return f.Function, fmt.Sprintf("%s:%d", f.File, f.Line)
		}
	}
	return "", "an unknown place"
}

// ownFunctions is how the names of this package's functions begin.
const ownFunctions = "github.com/dserver-go/dserver/dserver."
