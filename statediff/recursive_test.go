package statediff

import (
	"reflect"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/internal/wire"
)

type (
	// comment contains itself in each way.
	comment struct {
		Text    string
		Next    *comment
		Replies []comment
		By      map[string]*comment
		Parent  *comment `dserver:"-" cbor:"-"`
	}
	// post is an item of a list that has such lists.
	post struct {
		ID   string `dserver:"id"`
		Text string
		Sub  []post
	}
	kin    map[string]kin
	twigs  []twigs
	thread struct {
		Root  comment
		Last  *comment
		Named map[string]comment
		Posts []post
		Kin   kin
		Twigs twigs
		Forks []thread
	}
)

func aThread() *thread {
	leaf := comment{Text: "leaf"}
	return &thread{
		Root:  comment{Text: "root", Next: &leaf, Replies: []comment{leaf, {Text: "b", Replies: []comment{leaf}}}, By: map[string]*comment{"x": &leaf}},
		Last:  &comment{Text: "last", Replies: []comment{leaf}},
		Named: map[string]comment{"a": {Text: "a", Replies: []comment{leaf}}, "b": {By: map[string]*comment{"y": &leaf}}},
		Posts: []post{{"p1", "one", []post{{"p1", "below", nil}}}, {"p2", "two", nil}},
		Kin:   kin{"k": {"l": {}}},
		Twigs: twigs{{}, {{}}},
		Forks: []thread{{Root: comment{Text: "fork"}}},
	}
}

// A type may contain itself: it has its rows where it begins, and from there on is one value.
func TestTypesThatContainThemselves(t *testing.T) {
	s := schemaOf[thread](t)
	v := aThread()
	v.Root.Replies[0].Parent = &v.Root // it is not stored
	r := rowsOf(t, s, v)
	var keys []string
	for k := range r.All() {
		keys = append(keys, Path(k))
	}
	want := "Forks Kin.k Last Last.Replies Last.Text Named.a Named.b Named.b.By Posts.p1 Posts.p1# Posts.p1.Sub Posts.p2 Posts.p2# " +
		"Root.By Root.Next Root.Replies Root.Text Twigs"
	if got := strings.Join(keys, " "); got != want {
		t.Errorf("the rows are %s\nwant         %s", got, want)
	}
	back := decode[thread](t, s, r)
	mustCount(t, diff(t, s, r, back), 0)
	v.Root.Replies[0].Parent = nil
	mustBeSame(t, back, v)
	filled := aThread()
	if err := s.Fill(filled); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]*thread{"read": back, "filled": filled} {
		if v.Root.By == nil || v.Root.Replies[0].By == nil || v.Root.Replies[1].Replies[0].By == nil || v.Forks[0].Kin == nil {
			t.Errorf("a map is nil in what was %s", name)
		}
	}
	for _, change := range []func(v *thread){
		func(v *thread) { v.Root.Text = "changed" },
		func(v *thread) { v.Root.Replies[1].Replies = append(v.Root.Replies[1].Replies, comment{Text: "new"}) },
		func(v *thread) { v.Root.By["y"] = &comment{Text: "y"} },
		func(v *thread) { v.Posts[0].Sub[0].Sub = []post{{ID: "deep"}} },
		func(v *thread) { v.Kin["k"]["l"]["m"] = kin{} },
		func(v *thread) { v.Forks[0].Forks = []thread{*aThread()} },
		func(v *thread) { v.Last = nil },
	} {
		change(v)
		if edits := commit(t, s, r, v); len(edits) != 1 {
			t.Errorf("%d edits of one change:\n%s", len(edits), textOfEdits(edits))
		}
		mustBeSame(t, decode[thread](t, s, r), v)
	}
	if _, err := Generic(r); err != nil {
		t.Error(err)
	}
}

// A type that comes to contain itself is stored as it was, beside what is new in it.
func TestTypeThatComesToContainItself(t *testing.T) {
	type postBefore struct {
		ID   string `dserver:"id"`
		Tags map[string]int
	}
	type postNow struct {
		ID   string `dserver:"id"`
		Tags map[string]int
		Sub  []postNow
		By   map[string]map[string]postNow
	}
	type before struct {
		Posts []postBefore
		By    map[string]map[string]postBefore
		One   *postBefore
	}
	type now struct {
		Posts []postNow
		By    map[string]map[string]postNow
		One   *postNow
	}
	older, newer := schemaOf[before](t), schemaOf[now](t)
	p := postBefore{"p", map[string]int{"x": 1}}
	r := rowsOf(t, older, &before{[]postBefore{p}, map[string]map[string]postBefore{"a": {"b": p}}, &p})
	v := decode[now](t, newer, r)
	mustCount(t, diff(t, newer, r, v), 0)
	v.Posts[0].Sub = []postNow{{ID: "q"}}
	mustCount(t, commit(t, newer, r, v), 1)
	v.By["a"]["b"].Tags["x"] = 2
	mustCount(t, commit(t, newer, r, v), 1)
	o := decode[before](t, older, r)
	o.Posts[0].Tags["x"], v.Posts[0].Tags["x"] = 3, 3
	mustCount(t, commit(t, older, r, o), 1)
	mustBeSame(t, decode[now](t, newer, r), v)
}

// What has no end is refused, wherever it stands, and nothing is lost.
func TestValuesWithoutAnEndAreRefused(t *testing.T) {
	s := schemaOf[thread](t)
	for name, spoil := range map[string]func(v *thread){
		"a pointer":         func(v *thread) { v.Root.Next = &v.Root },
		"a pointer's row":   func(v *thread) { v.Last.Next = v.Last },
		"a map":             func(v *thread) { v.Kin["k"] = v.Kin },
		"a map of pointers": func(v *thread) { v.Root.By["x"] = &v.Root },
		"a slice":           func(v *thread) { v.Twigs[0] = v.Twigs },
		"a list's item":     func(v *thread) { v.Posts[0].Sub = v.Posts },
		"all":               func(v *thread) { v.Forks[0].Forks = v.Forks },
	} {
		v := aThread()
		r := rowsOf(t, s, v)
		spoil(v)
		if edits, err := s.Diff(r, v); err == nil || !strings.Contains(err.Error(), "contains itself") {
			t.Errorf("%s: %d edits, %v", name, len(edits), err)
		}
		mustBeSame(t, decode[thread](t, s, r), aThread())
	}
}

// What was taken can be read, however deep it is.
func TestDeepValuesAreTakenAsFarAsTheyCanBeRead(t *testing.T) {
	s := schemaOf[thread](t)
	taken := 0
	for depth := range 2 * wire.MaxNesting {
		v := &thread{}
		at := &v.Root
		for range depth {
			at.Next = &comment{Text: "deeper"}
			at = at.Next
		}
		r := NewRows()
		edits, err := s.Diff(r, v)
		if err != nil {
			continue
		}
		taken++
		r.Apply(edits)
		if got := decode[thread](t, s, r); !reflect.DeepEqual(got.Root.Text, v.Root.Text) {
			t.Fatalf("%+v", got)
		}
	}
	if taken < wire.MaxNesting-1 || taken > wire.MaxNesting+2 {
		t.Errorf("%d depths were taken", taken)
	}
}
