package stacks

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Stacks is where the goroutines of a process were that run functions of the library. The runtime tells it of the
// goroutine that asks, or of all, for which it stops them. So a goroutine that runs what may not return notes its number,
// and all stacks are read when it has not returned.
type Stacks struct {
	mu    sync.Mutex
	taken time.Time
	all   map[uint64]stack // by the goroutine's number
}

type stack struct {
	text string
	by   uint64 // the goroutine that started this one
}

const (
	// stacksLast is how long stacks are kept, and not read again. It is the time of a turn, so what has not returned for as
	// long is in them.
	stacksLast = 4 * time.Second

	// maxGoroutines is how many may be stopped. It takes some 0.2 s to read the stacks of so many.
	maxGoroutines = 10_000

	firstStacksBytes = 1 << 20
	maxStacksBytes   = 16 << 20
)

// Where is the stack of a goroutine that has not returned since a moment, and those of the goroutines that it started.
// They are empty when its number is 0, when there are too many goroutines, and when the stacks are older than that.
func (s *Stacks) Where(goroutine uint64, since time.Time) (own string, started []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if goroutine == 0 {
		return "", nil
	}
	if time.Since(s.taken) >= stacksLast {
		s.taken, s.all = time.Now(), readStacks()
		time.AfterFunc(stacksLast, s.drop)
	}
	if s.taken.Before(since) {
		return "", nil
	}
	for _, other := range s.all {
		if other.by == goroutine {
			started = append(started, other.text)
		}
	}
	return s.all[goroutine].text, started
}

func (s *Stacks) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.taken) >= stacksLast {
		s.all = nil
	}
}

// readStacks reads the stacks with functions of the library.
func readStacks() map[uint64]stack {
	found := map[uint64]stack{}
	if runtime.NumGoroutine() > maxGoroutines {
		return found
	}
	dump := make([]byte, firstStacksBytes)
	n := runtime.Stack(dump, true)
	for n == len(dump) && n < maxStacksBytes {
		dump = make([]byte, 4*len(dump))
		n = runtime.Stack(dump, true)
	}
	for text := range bytes.SplitSeq(dump[:n], []byte("\n\n")) {
		if bytes.Contains(text, []byte(facade)) || bytes.Contains(text, []byte(rooms)) {
			_, by, _ := bytes.Cut(text, []byte(" in goroutine "))
			found[numberIn(text[len("goroutine "):])] = stack{truncate(string(withoutArguments(text))), numberIn(by)}
		}
	}
	return found
}

// withoutArguments is a stack without what its functions were called with: numbers of a message would be among that.
func withoutArguments(text []byte) (bare []byte) {
	for line := range bytes.Lines(text) {
		open := bytes.LastIndexByte(line, '(')
		if open < 0 || line[0] == '\t' || bytes.HasPrefix(line, []byte("created by ")) {
			bare = append(bare, line...)
		} else {
			bare = append(append(bare, line[:open]...), "(...)\n"...)
		}
	}
	return bare
}

// Goroutine is the number of this goroutine. It takes microseconds.
func Goroutine() uint64 {
	var head [64]byte
	n := runtime.Stack(head[:], false)
	return numberIn(head[len("goroutine "):n])
}

// numberIn is the number that a text begins with, or 0.
func numberIn(text []byte) (n uint64) {
	for _, c := range text {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + uint64(c-'0')
	}
	return n
}

// Caller is the innermost function, and the place in it, that is not of the library.
func Caller() (function, place string) {
	var counters [16]uintptr
	frames := runtime.CallersFrames(counters[:runtime.Callers(2, counters[:])])
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		if !strings.HasPrefix(f.Function, facade) && !strings.HasPrefix(f.Function, rooms) {
			return f.Function, fmt.Sprintf("%s:%d", f.File, f.Line)
		}
	}
	return "", "an unknown place"
}

// How the names of the library's functions begin.
const (
	facade = "github.com/dserver-go/dserver/dserver."
	rooms  = "github.com/dserver-go/dserver/internal/"
)

// maxStackBytes bounds a stack.
const maxStackBytes = 16 << 10

func truncate(text string) string {
	if len(text) <= maxStackBytes {
		return text
	}
	return text[:maxStackBytes] + "…"
}
