package dserver_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/statediff"
)

// Room is a state that is too large to be loaded for each message.
type Room struct {
	Topic  string
	Lines  statediff.List[string]
	People statediff.Map[string, int]
}

type (
	Say struct {
		dserver.Returns[int]
		Who, Text string
	}
	Mutter struct {
		dserver.Returns[int]
		Text string
	}
	Last struct{ dserver.Returns[string] }
)

var rooms = dserver.Define("room",
	dserver.HandleCall(func(_ *dserver.Context, r *Room, m Say) (int, error) {
		r.Lines.Append(m.Text)
		n, _ := r.People.Get(m.Who)
		r.People.Set(m.Who, n+1)
		return r.Lines.Len(), nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, r *Room, m Mutter) (int, error) {
		r.Lines.Append(m.Text)
		return r.Lines.Len(), errRefused
	}),
	dserver.HandleCall(func(_ *dserver.Context, r *Room, _ Last) (string, error) {
		for _, text := range r.Lines.Backward("") {
			return text, nil
		}
		return "", nil
	}),
)

func TestTrackedCollectionsAreChangedAndAsked(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx := within(t)
		var sides []*dserver.DServer[Room] // each beside its consumer: what one loaded the other changes
		for range 2 {
			db := open()
			start(t, db, rooms)
			sides = append(sides, rooms.At(db, "a"))
		}
		for i := range 50 {
			room := sides[i/3%2]
			if _, err := dserver.Call(ctx, room, Mutter{Text: "refused"}); !errors.Is(err, errRefused) {
				t.Fatal(err)
			}
			n, err := dserver.Call(ctx, room, Say{Who: "ada", Text: fmt.Sprint(i)})
			if n != i+1 || err != nil {
				t.Fatalf("%d, %v; want %d", n, err, i+1)
			}
		}
		room := rooms.At(open(), "a")
		must(t, room.CastAll(ctx, []any{
			Say{Who: "bob", Text: "one"}, Mutter{Text: "refused"}, Say{Who: "bob", Text: "two"},
		}))
		for _, room := range append(sides, room) {
			if last, err := dserver.Call(ctx, room, Last{}); last != "two" || err != nil {
				t.Fatalf("%q, %v", last, err)
			}
			if last, err := dserver.Query(ctx, room, Last{}); last != "two" || err != nil {
				t.Fatalf("%q, %v", last, err)
			}
		}
		if _, err := dserver.Query(ctx, room, Say{Who: "eve", Text: "three"}); err == nil {
			t.Fatal("a query changed a tracked collection")
		}
		s, err := room.State(ctx)
		if err != nil || s.Lines.Len() != 52 {
			t.Fatalf("%d lines, %v", s.Lines.Len(), err)
		}
		for who, want := range map[string]int{"ada": 50, "bob": 2, "eve": 0} {
			if n, _ := s.People.Get(who); n != want {
				t.Errorf("%s said %d", who, n)
			}
		}
	})
}

// A query of a state of an older version reads its tracked collections as well: the Upgrade may take them apart.
func TestAQueryOfAnOlderStateKnowsItsTrackedCollections(t *testing.T) {
	type oldRoom struct {
		Topic  string
		People map[string]int
	}
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx, db := within(t), open()
		first := dserver.Define("room", dserver.HandleCall(func(_ *dserver.Context, r *oldRoom, m Say) (int, error) {
			r.People = map[string]int{m.Who: 7}
			return 0, nil
		}))
		stop := run(t, dserver.Consumer{}, db, first)
		if _, err := dserver.Call(ctx, first.At(db, "a"), Say{Who: "ada"}); err != nil {
			t.Fatal(err)
		}
		stop()
		second := dserver.Define("room",
			dserver.HandleCall(func(_ *dserver.Context, r *Room, m Say) (int, error) {
				n, _ := r.People.Get(m.Who)
				return n, nil
			}),
			dserver.Upgrade(1, func(old oldRoom, r *Room) error {
				for who, n := range old.People {
					r.People.Set(who, n+1)
				}
				return nil
			}))
		n, err := dserver.Query(ctx, second.At(db, "a"), Say{Who: "ada"})
		if err != nil || n != 8 {
			t.Errorf("the query finds %d: %v", n, err)
		}
	})
}
