package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
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
	t.Parallel()
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
	store := newStore(t, shelves3)
	lib := library{t: t, random: random, db: store.Open(), lent: map[string]int{}, titles: map[string]string{}}
	var processes sync.WaitGroup
	ctx, end := context.WithCancel(t.Context())
	for step := range 30 {
		if version := 1 + random.IntN(3); random.IntN(3) == 0 {
			life := time.Duration(random.IntN(20_000)) * time.Millisecond
			processes.Go(func() { liveAndEnd(ctx, t, store.Open(), shelvesOf(version), life, step%2 == 0) })
		}
		lib.send(random.IntN(6))
		<-time.After(time.Duration(random.IntN(3000)) * time.Millisecond)
	}
	end()
	processes.Wait()
	stop := run(t, dserver.Consumer{}, store.Open(), shelves3)
	lib.callers.Wait()
	<-time.After(5 * time.Minute)
	stop()
	lib.judge()
}

// library sends to the shelves, and knows what has to come of it.
type library struct {
	t      *testing.T
	random *rand.Rand
	db     backend.Database

	callers sync.WaitGroup
	lent    map[string]int // by shelf and book
	titles  map[string]string
}

// A library has few shelves and books, so that versions meet there.
const (
	shelvesInUse = 3
	booksInUse   = 4
)

// send sends n messages, and waits for the casts alone.
func (l *library) send(n int) {
	address := dserver.Define[shelf3]("shelf")
	for range n {
		id, book := fmt.Sprint(l.random.IntN(shelvesInUse)), fmt.Sprint(l.random.IntN(booksInUse))
		if l.random.IntN(3) == 0 {
			must(l.t, address.At(l.db, id).Cast(l.t.Context(), Entitle{book, "x"}))
			l.titles[id+"/"+book] += "x"
			continue
		}
		l.lent[id+"/"+book]++
		l.callers.Go(func() {
			if _, err := dserver.Call(l.t.Context(), address.At(l.db, id), Lend{Book: book}); err != nil {
				l.t.Error(err)
			}
		})
	}
}

// judge compares what is stored in the end.
func (l *library) judge() {
	for id := range shelvesInUse {
		s := shelves3.At(l.db, fmt.Sprint(id))
		if dead := letters(l.t, s); len(dead) > 0 {
			l.t.Errorf("%v: %d are set aside, the first with %+v", s.Ref(), len(dead), dead[0])
		}
		state, err := s.State(l.t.Context())
		if err != nil && !errors.Is(err, dserver.ErrNotFound) {
			l.t.Fatal(err)
		}
		for book := range booksInUse {
			name := fmt.Sprint(id, "/", book)
			b, note := state.Volumes[fmt.Sprint(book)], state.Notes[fmt.Sprint(book)]
			if b.Lent != l.lent[name] || b.Title != l.titles[name] || note != l.titles[name] {
				l.t.Errorf("%s: %+v and note %q, want %d and %q", name, b, note, l.lent[name], l.titles[name])
			}
		}
	}
}

// shelvesEnv tells a child process which version of the program it is, and of which database.
const shelvesEnv = "DSERVER_SHELVES_CHILD"

// TestShelvesChild is a process of TestRollingUpdatesOfKilledProcesses.
func TestShelvesChild(t *testing.T) {
	version, name, ok := strings.Cut(os.Getenv(shelvesEnv), " ")
	if !ok {
		t.Skip("the child process of another test")
	}
	n, err := strconv.Atoi(version)
	must(t, err)
	db := openNamed(t, name)
	defer db.Close()
	must(t, quickly(untilOrphaned(), db, shelvesOf(n)))
}

// The same with processes: they are started, stopped and killed in any order, on each store.
func TestRollingUpdatesOfKilledProcesses(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	steps := 15
	if isLong() {
		steps = 300
	}
	eachNamedStore(t, func(t *testing.T, place func(testing.TB) string) {
		name := place(t)
		lib := library{t: t, random: random, db: openNamed(t, name), lent: map[string]int{}, titles: map[string]string{}}
		t.Cleanup(func() { must(t, lib.db.Close()) })
		children := newBrood(t)
		for range steps {
			switch {
			case len(children.living) < 4 && random.IntN(2) == 0:
				children.begin(childOf("TestShelvesChild", shelvesEnv, fmt.Sprint(1+random.IntN(3), " ", name)))
			case len(children.living) > 0 && random.IntN(3) == 0:
				children.end(random.IntN(len(children.living)), random.IntN(2) == 0)
			}
			lib.send(random.IntN(20))
			<-time.After(time.Duration(random.IntN(400)) * time.Millisecond)
		}
		children.endAll(func() (kill bool) { return random.IntN(2) == 0 })
		runQuickly(t, openNamed(t, name), shelves3)
		lib.callers.Wait()
		for id := range shelvesInUse {
			s := shelves3.At(lib.db, fmt.Sprint(id))
			eventually(t, "all is handled", func() bool { return statusOf(t, s).Queued == 0 })
		}
		lib.judge()
		check(t, lib.db, shelves3)
	})
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
