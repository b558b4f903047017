package dserver_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Slow is a message whose handler takes its time.
type Slow struct {
	Line string
	Took time.Duration
}

// lineup is what slow handlers were given, in order.
type lineup struct {
	mu    sync.Mutex
	lines []string
}

func (l *lineup) types() *dserver.Definition[Journal] {
	return journals.With(dserver.HandleCast(func(_ *dserver.Context, _ *Journal, m Slow) error {
		if m.Took > 0 {
			<-time.After(m.Took)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, m.Line)
		return nil
	}))
}

// gaps is how many priority messages ran before each normal one.
func (l *lineup) gaps() (gaps []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if n++; line == "normal" {
			gaps, n = append(gaps, n-1), 0
		}
	}
	return gaps
}

// While priority messages back up, a normal message runs after 255 of them or 200 ms of their handlers, whichever is
// sooner, and where one of them takes longer, every other message is a normal one.
func TestNormalMessagesRunThoughPriorityMessagesBackUp(t *testing.T) {
	t.Parallel()
	const normal = 4
	backUp := func(t *testing.T, open func() backend.Database, took time.Duration, most int) {
		var l lineup
		types := l.types()
		s, ctx := types.At(open(), "a"), context.Background()
		must(t, s.CastAll(ctx, slices.Repeat([]any{Slow{"normal", took}}, normal)))
		for left := (normal + 1) * most; left > 0; left -= 250 {
			must(t, s.CastAll(ctx, slices.Repeat([]any{Slow{"priority", took}}, min(left, 250)), dserver.Priority()))
		}
		run(t, dserver.Consumer{}, open(), types)
		eventually(t, "all normal messages are handled", func() bool { return len(l.gaps()) == normal })
		for _, gap := range l.gaps() {
			if gap > most {
				t.Errorf("with handlers of %v, %v priority messages ran before the normal ones", took, l.gaps())
				break
			}
		}
	}
	for _, c := range []struct {
		took time.Duration
		most int
	}{{0, 255}, {time.Millisecond, 202}, {30 * time.Millisecond, 7}, {time.Second, 1}} {
		t.Run(fmt.Sprint(c.took), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { backUp(t, newStore(t, journals).Open, c.took, c.most) })
		})
	}
	eachRealStore(t, func(t *testing.T, open func() backend.Database) { backUp(t, open, 2*time.Millisecond, 102) })
}
