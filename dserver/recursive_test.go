package dserver_test

import (
	"strings"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Topic is a state of a type that contains itself.
type Topic struct {
	Title string
	Below []Topic
	Named map[string]*Topic
	Last  *Topic
}

type (
	// Reply adds a topic below those that are named.
	Reply struct{ At, Title string }
	// Knot makes a topic that has no end.
	Knot   struct{}
	Titles struct{ dserver.Returns[string] }
)

func (p *Topic) titles() string {
	var below []string
	for i := range p.Below {
		below = append(below, p.Below[i].titles())
	}
	return p.Title + "(" + strings.Join(below, " ") + ")"
}

var topics = dserver.Define("topic",
	dserver.HandleCast(func(_ *dserver.Context, p *Topic, m Reply) error {
		at := p
		for _, title := range strings.Fields(m.At) {
			at = at.Named[title]
		}
		if at.Named == nil {
			at.Named = map[string]*Topic{}
		}
		at.Below = append(at.Below, Topic{Title: m.Title})
		at.Named[m.Title] = &Topic{Title: m.Title}
		p.Last = &Topic{Title: m.Title}
		return nil
	}),
	dserver.HandleCast(func(_ *dserver.Context, p *Topic, _ Knot) error {
		p.Last = p
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, p *Topic, _ Titles) (string, error) {
		return p.titles() + " " + p.Named["b"].titles() + " " + p.Last.Title, nil
	}))

// A state may be of a type that contains itself. A value without an end is an error of its message, and harms nothing.
func TestStateOfATypeThatContainsItself(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		const want = "(a() b()) b(c()) c"
		ctx := within(t)
		for _, first := range []bool{true, false} {
			db := open()
			s := topics.At(db, "x")
			stop := run(t, dserver.Consumer{}, db, topics)
			if first {
				for _, m := range []Reply{{"", "a"}, {"", "b"}, {"b", "c"}} {
					must(t, s.Call(ctx, m, nil))
				}
			}
			if err := s.Call(ctx, Knot{}, nil); err == nil || !strings.Contains(err.Error(), "Last: it contains itself") {
				t.Errorf("a knot: %v", err)
			}
			if got, err := dserver.Call(ctx, s, Titles{}); got != want || err != nil {
				t.Errorf("%q, %v; want %q", got, err, want)
			}
			stop()
			must(t, dserver.Check(ctx, db, topics))
		}
	})
}
