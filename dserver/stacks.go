package dserver

import (
	"bytes"
	"runtime"
	"sync"
	"time"
)

// stacks is where the goroutines of a process were that run functions of this package. The runtime tells it of the
// goroutine that asks, or of all, for which it stops them. So a goroutine that runs what may not return notes its number,
// and all stacks are read when it has not returned.
type stacks struct {
	mu    sync.Mutex
	taken time.Time
	all   map[uint64]stack // by the goroutine's number
}

type stack struct {
	text string
	by   uint64 // the goroutine that started this one
}

const (
	// stacksLast is how long stacks are kept, and not read again. What has not returned for as long is in them.
	stacksLast = handlerLimit

	// maxGoroutines is how many may be stopped. It takes some 0.2 s to read the stacks of so many.
	maxGoroutines = 10_000

	firstStacksBytes = 1 << 20
	maxStacksBytes   = 16 << 20
)

// where is the stack of a goroutine that has not returned since a moment, and those of the goroutines that it started.
// They are empty when its number is 0, when there are too many goroutines, and when the stacks are older than that.
func (s *stacks) where(goroutine uint64, since time.Time) (own string, started []string) {
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

func (s *stacks) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.taken) >= stacksLast {
		s.all = nil
	}
}

// readStacks reads the stacks with functions of this package.
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
		if bytes.Contains(text, []byte(ownFunctions)) {
			_, by, _ := bytes.Cut(text, []byte(" in goroutine "))
			found[numberIn(text[len("goroutine "):])] = stack{truncate(string(withoutArguments(text)), maxStack), numberIn(by)}
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

// goroutineID is the number of this goroutine. It takes microseconds.
func goroutineID() uint64 {
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
