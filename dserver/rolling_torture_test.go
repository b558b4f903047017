package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Three versions of one program: the second adds a field to the state and to its entries, and a message that sets both;
// the third renames the entries, by an Upgrade.
type (
	shelf1 struct{ Books map[string]book1 }
	book1  struct{ Lent int }
	shelf2 struct {
		Books map[string]book2
		Notes map[string]string
	}
	book2 struct {
		Lent  int
		Title string
	}
	shelf3 struct {
		Volumes map[string]book2
		Notes   map[string]string
	}

	// Lend is of all versions, Entitle of the second and the third.
	Lend struct {
		dserver.Returns[int]
		Book string
	}
	Entitle struct{ Book, Title string }
)

func shelvesOf(version int) dserver.Type {
	switch version {
	case 1:
		return dserver.Define("shelf", dserver.HandleCall(func(_ *dserver.Context, s *shelf1, m Lend) (int, error) {
			b := s.Books[m.Book]
			b.Lent++
			s.Books[m.Book] = b
			return b.Lent, nil
		}))
	case 2:
		return dserver.Define("shelf",
			dserver.HandleCall(func(_ *dserver.Context, s *shelf2, m Lend) (int, error) { return lend(s.Books, m), nil }),
			dserver.HandleCast(func(_ *dserver.Context, s *shelf2, m Entitle) error { return entitle(s.Books, s.Notes, m) }))
	}
	return shelves3
}

var shelves3 = dserver.Define("shelf",
	dserver.HandleCall(func(_ *dserver.Context, s *shelf3, m Lend) (int, error) { return lend(s.Volumes, m), nil }),
	dserver.HandleCast(func(_ *dserver.Context, s *shelf3, m Entitle) error { return entitle(s.Volumes, s.Notes, m) }),
	dserver.Upgrade(1, func(old shelf2, s *shelf3) error { s.Volumes, s.Notes = old.Books, old.Notes; return nil }))

func lend(books map[string]book2, m Lend) int {
	b := books[m.Book]
	b.Lent++
	books[m.Book] = b
	return b.Lent
}

func entitle(books map[string]book2, notes map[string]string, m Entitle) error {
	b := books[m.Book]
	b.Title += m.Title
	books[m.Book] = b
	notes[m.Book] += m.Title
	return nil
}

// Processes of all versions come, end and are killed in any order, while messages of all of them are sent. In the end
// each has counted once, nothing is set aside, and what the older versions do not know is there.
func TestLongRollingUpdatesEraseAndSetAsideNothing(t *testing.T) {
	random := seeded(t)
	rounds := 5
	if isLong() {
		rounds = 500
	}
	for round := range rounds {
		if !t.Run(fmt.Sprint(round), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { rollingUpdate(t, random) })
		}) {
			return
		}
	}
}

// rollingUpdate is shorter than the time after which a message that nobody handles is set aside.
func rollingUpdate(t *testing.T, random *rand.Rand) {
	const servers, books = 3, 4
	store := newStore(t, shelves3)
	address := dserver.Define[shelf3]("shelf")
	db := store.Open()
	var processes, callers sync.WaitGroup
	ctx, end := context.WithCancel(t.Context())
	lent, titles := map[string]int{}, map[string]string{}
	for step := range 30 {
		if version := 1 + random.IntN(3); random.IntN(3) == 0 {
			life := time.Duration(random.IntN(20_000)) * time.Millisecond
			processes.Go(func() { liveAndEnd(ctx, t, store.Open(), shelvesOf(version), life, step%2 == 0) })
		}
		for range random.IntN(6) {
			id, book := fmt.Sprint(random.IntN(servers)), fmt.Sprint(random.IntN(books))
			if random.IntN(3) == 0 {
				must(t, address.At(db, id).Cast(ctx, Entitle{book, "x"}))
				titles[id+"/"+book] += "x"
				continue
			}
			lent[id+"/"+book]++
			callers.Go(func() {
				if _, err := dserver.Call(t.Context(), address.At(db, id), Lend{Book: book}); err != nil {
					t.Error(err)
				}
			})
		}
		<-time.After(time.Duration(random.IntN(3000)) * time.Millisecond)
	}
	end()
	processes.Wait()
	stop := run(t, dserver.Consumer{}, store.Open(), shelves3)
	callers.Wait()
	<-time.After(5 * time.Minute)
	stop()
	for id := range servers {
		s := shelves3.At(db, fmt.Sprint(id))
		if dead := letters(t, s); len(dead) > 0 {
			t.Errorf("%v: %d are set aside, the first with %+v", s.Ref(), len(dead), dead[0])
		}
		state, err := s.State(t.Context())
		if err != nil && !errors.Is(err, dserver.ErrNotFound) {
			t.Fatal(err)
		}
		for book := range books {
			name := fmt.Sprint(id, "/", book)
			b, note := state.Volumes[fmt.Sprint(book)], state.Notes[fmt.Sprint(book)]
			if b.Lent != lent[name] || b.Title != titles[name] || note != titles[name] {
				t.Errorf("%s: %+v and note %q, want %d and %q", name, b, note, lent[name], titles[name])
			}
		}
	}
}

// liveAndEnd runs a consumer for so long, at most until ctx ends, and then ends or kills it.
func liveAndEnd(ctx context.Context, t *testing.T, db backend.Database, types dserver.Type, life time.Duration, kill bool) {
	ctx, cancel := context.WithTimeout(ctx, life)
	defer cancel()
	if kill {
		death := time.AfterFunc(life*9/10, func() { _ = db.Close() })
		defer death.Stop()
	}
	if err := dserver.Run(ctx, db, types); err != nil && !errors.Is(err, backend.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
}
