package dserver_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
)

// Sow makes its server send N messages to itself.
type Sow struct{ N int }

var sowers = dserver.Define("sower",
	dserver.Settings[Counter]{MaxQueued: maxQueued},
	dserver.HandleCast(func(ctx *dserver.Context, c *Counter, m Sow) error {
		c.Count++
		for range m.N {
			ctx.Cast(ctx.Self(), Sow{})
		}
		return nil
	}))

// sowModel is what a bounded queue does, as the documents say it.
type sowModel struct {
	t       *testing.T
	hand    *dservertest.Hand
	s       *dserver.DServer[Counter]
	lanes   [2][]int // what waits: how many messages each of them sends
	used    map[string]bool
	handled int64
}

func (m *sowModel) len() int { return len(m.lanes[0]) + len(m.lanes[1]) }

// send compares what became of a send to the queue that needs room.
func (m *sowModel) send(r *rapid.T, err error, what ...int) (sent bool) {
	if isFull := m.len() >= maxQueued; isFull != errors.Is(err, dserver.ErrQueueFull) || !isFull && err != nil {
		r.Fatalf("%d of %d messages wait: %v", m.len(), maxQueued, err)
	}
	if err != nil {
		return false
	}
	m.lanes[1] = append(m.lanes[1], what...)
	return true
}

func (m *sowModel) actions() map[string]func(*rapid.T) {
	ctx := m.t.Context()
	return map[string]func(*rapid.T){
		"cast": func(r *rapid.T) {
			n := rapid.IntRange(0, 4).Draw(r, "sends")
			m.send(r, m.s.Cast(ctx, Sow{n}), n)
		},
		"cast all": func(r *rapid.T) {
			n := rapid.IntRange(1, 5).Draw(r, "messages")
			m.send(r, m.s.CastAll(ctx, slices.Repeat([]any{Sow{}}, n)), make([]int, n)...)
		},
		"once": func(r *rapid.T) {
			key := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(r, "key")
			err := m.s.Cast(ctx, Sow{1}, dserver.Once(key))
			switch {
			case m.used[key] && err != nil:
				r.Fatalf("a key that was used: %v", err)
			case !m.used[key]:
				m.used[key] = m.send(r, err, 1)
			}
		},
		"priority": func(r *rapid.T) {
			n := rapid.IntRange(0, 2).Draw(r, "sends")
			if err := m.s.Cast(ctx, Sow{n}, dserver.Priority()); err != nil {
				r.Fatal(err)
			}
			m.lanes[0] = append(m.lanes[0], n)
		},
		"after": func(r *rapid.T) {
			if err := m.s.Cast(ctx, Sow{}, dserver.After(time.Hour)); err != nil {
				r.Fatal(err)
			}
		},
		"handle": m.handle,
		"": func(r *rapid.T) {
			status, err := m.s.Status(ctx)
			if err != nil || status.Queued != int64(m.len()) || status.DeadLetters > 0 {
				r.Fatalf("%+v, %v; %d should wait", status, err, m.len())
			}
		},
	}
}

// handle handles the next message.
func (m *sowModel) handle(r *rapid.T) {
	if m.hand.Step() != (m.len() > 0) {
		r.Fatalf("%d messages wait, and the hand found something else", m.len())
	}
	if m.len() == 0 {
		return
	}
	lane := &m.lanes[0]
	if len(*lane) == 0 {
		lane = &m.lanes[1]
	}
	n := (*lane)[0]
	*lane = (*lane)[1:]
	m.lanes[1] = append(m.lanes[1], make([]int, n)...)
	m.handled++
	if state, err := m.s.State(m.t.Context()); err != nil || state.Count != m.handled {
		r.Fatalf("%d were handled, %v; want %d", state.Count, err, m.handled)
	}
}

// Sends of all kinds, and turns, in any order: those and only those are refused that need room where there is none.
func TestBoundedQueuesAreAsTheirModel(t *testing.T) {
	hand, tries := dservertest.ByHand(t, sowers), 0
	rapid.Check(t, func(r *rapid.T) {
		hand.Drain() // what a try that failed has left
		tries++
		m := &sowModel{t: t, hand: hand, s: sowers.At(hand.DB, fmt.Sprint(tries)), used: map[string]bool{}}
		r.Repeat(m.actions())
		for m.len() > 0 {
			m.handle(r)
		}
	})
}
