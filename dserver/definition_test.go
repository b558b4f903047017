package dserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/buildtest"
)

// Types that a definition must refuse, as a state, a message or a reply.
type (
	HasInterface struct{ Any any }
	HasChannel   struct{ C chan int }
	HasFunction  struct{ F func() }
	HasHidden    struct {
		Shown  int
		hidden int
	}
	HasMutex   struct{ Mu sync.Mutex }
	HasAtomic  struct{ N atomic.Int64 }
	HasHandle  struct{ To *dserver.DServer[Journal] }
	HasDeep    struct{ Outer struct{ Inner []HasChannel } }
	HasMapKey  struct{ M map[any]int }
	HasPointer struct{ P *HasFunction }
	HasError   struct{ Err error }

	HasSecret struct {
		Secret string `json:"-"`
	}
	Left     struct{ Same int }
	Right    struct{ Same int }
	HasTwins struct {
		Left
		Right
	}
	HasCover struct {
		Left
		Same string
	}
	HasTime struct {
		time.Time
		N int
	}
	HasPointers struct{ P **int }
	HasOneWay   struct{ W Writes }
	Writes      struct{ n int }
	SecretReply struct{ dserver.Returns[HasSecret] }

	Plain    struct{ N int }
	Answered struct{ dserver.Returns[int] }

	genericName[T any] struct{ V T }
	NoName             struct{}
	SameA              struct{}
	SameB              struct{}
	HiddenReply        struct{ dserver.Returns[HasHidden] }
	InterfaceReply     struct{ dserver.Returns[any] }
)

func (w Writes) MarshalText() ([]byte, error) { return []byte{byte(w.n)}, nil }

func (NoName) MessageName() string { return "" }
func (SameA) MessageName() string  { return "same" }
func (SameB) MessageName() string  { return "same" }

func cast[M any]() dserver.Part[Journal] {
	return dserver.HandleCast(func(*dserver.Context, *Journal, M) error { return nil })
}

func answers[M dserver.Request[R], R any]() dserver.Part[Journal] {
	return dserver.HandleCall(func(*dserver.Context, *Journal, M) (r R, err error) { return r, nil })
}

func refusesState[S any]() func() { return func() { dserver.Define[S]("d") } }

func with(parts ...dserver.Part[Journal]) func() { return func() { dserver.Define("d", parts...) } }

// Each wrong definition panics when the program starts, and says what and where.
func TestWrongDefinitionsPanicWithTheirPlaces(t *testing.T) {
	noop := func(*dserver.Context, *Journal) error { return nil }
	older := func(Plain, *Journal) error { return nil }
	work := func(*dserver.LockedContext, Journal, Plain) (int, error) { return 0, nil }
	apply := func(*dserver.Context, *Journal, Plain, int) error { return nil }
	askedWork := func(*dserver.LockedContext, Journal, Answered) (int, error) { return 0, nil }
	askedApply := func(*dserver.Context, *Journal, Answered, int) error { return nil }
	for _, c := range []struct {
		name   string
		define func()
		places int // of this file that the text names
		text   []string
	}{
		{"state with an interface", refusesState[HasInterface](), 1, []string{"state", "HasInterface.Any"}},
		{"state with an error", refusesState[HasError](), 1, []string{"HasError.Err"}},
		{"state with a channel", refusesState[HasChannel](), 1, []string{"HasChannel.C"}},
		{"state with a function", refusesState[HasFunction](), 1, []string{"HasFunction.F"}},
		{"state with a hidden field", refusesState[HasHidden](), 1, []string{"HasHidden.hidden", `dserver:"-"`}},
		{"state with a mutex", refusesState[HasMutex](), 1, []string{"HasMutex.Mu", "lock"}},
		{"state with an atomic", refusesState[HasAtomic](), 1, []string{"HasAtomic.N"}},
		{"state with a handle", refusesState[HasHandle](), 1, []string{"HasHandle.To"}},
		{"state with a channel deep inside", refusesState[HasDeep](), 1, []string{"Outer.Inner", ".C"}},
		{"state with an interface as key", refusesState[HasMapKey](), 1, []string{"HasMapKey.M"}},
		{"state with a function behind a pointer", refusesState[HasPointer](), 1, []string{"HasPointer.P"}},
		{"state that is an interface", refusesState[any](), 1, []string{"interface"}},

		{"no name", func() { dserver.Define[Journal]("") }, 1, []string{"without a name"}},
		{"name with a slash", func() { dserver.Define[Journal]("a/b") }, 1, []string{"slash"}},
		{"long name", func() { dserver.Define[Journal](strings.Repeat("n", 5000)) }, 1, []string{"5000 bytes"}},
		{"nil part", with(nil), 1, []string{`"d"`, "nil part"}},
		{"nil part later", func() { journal.With(nil) }, 1, []string{`"journal"`, "nil part"}},

		{"two handlers of one message", with(cast[Plain](), cast[Plain]()), 1, []string{"two handlers", "Plain", "and at"}},
		{"a second handler by With", func() {
			journals.With(
				cast[Write]())
		}, 1, []string{"two handlers", "Write", "world_test.go"}},
		{"a call and a cast of one message", with(answers[Answered](), cast[Answered]()), 1, []string{"Answered", "HandleCall"}},
		{"two messages of one name", with(cast[SameA](), cast[SameB]()), 1, []string{"SameA", "SameB", "same", "MessageName"}},
		{"message that is a pointer", with(cast[*Plain]()), 1, []string{"pointer"}},
		{"message that is an interface", with(cast[any]()), 1, []string{"interface"}},
		{"message that is an interface of its own", with(cast[fmt.Stringer]()), 1, []string{"interface"}},
		{"message without a name", with(cast[struct{ N int }]()), 1, []string{"declare a type"}},
		{"message of a built-in type", with(cast[int]()), 1, []string{"declare a type"}},
		{"message that is a slice", with(cast[[]Plain]()), 1, []string{"declare a type"}},
		{"message whose name is empty", with(cast[NoName]()), 1, []string{"MessageName", "empty"}},
		{"generic message", with(cast[genericName[int]]()), 1, []string{"generic", "MessageName"}},
		{"message with an interface", with(cast[HasInterface]()), 1, []string{"HasInterface.Any"}},
		{"message with a channel", with(cast[HasChannel]()), 1, []string{"HasChannel.C"}},
		{"message with a function", with(cast[HasFunction]()), 1, []string{"HasFunction.F"}},
		{"message with a hidden field", with(cast[HasHidden]()), 1, []string{"HasHidden.hidden"}},
		{"message with a channel deep inside", with(cast[HasDeep]()), 1, []string{"Outer.Inner", "C"}},
		{"message with a field that json leaves out", with(cast[HasSecret]()), 1, []string{"HasSecret.Secret", `cbor:"-"`}},
		{"message with two fields of one name", with(cast[HasTwins]()), 1, []string{"HasTwins.Right.Same", "HasTwins", ".Left.Same"}},
		{"message with a field that covers another", with(cast[HasCover]()), 1, []string{"HasCover.Same", ".Left.Same"}},
		{"message that embeds a time", with(cast[HasTime]()), 1, []string{"time.Time", "give the field a name"}},
		{"message with a pointer to a pointer", with(cast[HasPointers]()), 1, []string{"HasPointers.P", "pointer to a pointer"}},
		{"message that only marshals itself", with(cast[HasOneWay]()), 1, []string{"HasOneWay.W", "cannot decode itself"}},
		{"reply that json leaves out", with(answers[SecretReply]()), 1, []string{"reply", "HasSecret.Secret"}},
		{"request given to HandleCast", with(cast[Answered]()), 1, []string{"Answered", "HandleCall"}},
		{"reply with a hidden field", with(answers[HiddenReply]()), 1, []string{"reply", "HasHidden.hidden"}},
		{"reply that is an interface", with(answers[InterfaceReply]()), 1, []string{"reply", "interface"}},
		{"negative attempts", with(dserver.Settings[Journal]{MaxAttempts: -1}), 1, []string{`"d"`, "MaxAttempts:-1"}},
		{"a negative limit of handlers", with(dserver.Settings[Journal]{HandlerLimit: -1}), 1, []string{`"d"`, "HandlerLimit:-1"}},
		{"a negative back-off", with(dserver.Settings[Journal]{BackOff: -1}), 1, []string{`"d"`, "BackOff:-1"}},
		{"a negative bound of the back-off", with(dserver.Settings[Journal]{MaxBackOff: -1}), 1, []string{`"d"`, "MaxBackOff:-1"}},
		{"negative turns", with(dserver.Settings[Journal]{Turns: -1}), 1, []string{`"d"`, "Turns:-1"}},
		{"handlers beyond the transaction", with(dserver.Settings[Journal]{HandlerLimit: 5 * time.Second}), 1, []string{`"d"`, "HandlerLimit of 5s", "4s at most"}},
		{"a back-off of days", with(dserver.Settings[Journal]{MaxBackOff: 48 * time.Hour}), 1, []string{`"d"`, "MaxBackOff of 48h0m0s", "1h0m0s at most"}},
		{"a back-off beyond its bound", with(dserver.Settings[Journal]{BackOff: time.Minute}), 1, []string{`"d"`, "BackOff of 1m0s", "MaxBackOff of 30s"}},
		{"a bound below the back-off, later", func() { journal.With(dserver.Settings[Journal]{MaxBackOff: 1}) }, 1, []string{`"journal"`, "BackOff of 100ms", "MaxBackOff of 1ns"}},
		{"a negative bound", with(dserver.Settings[Journal]{MaxQueued: -1}), 1, []string{`"d"`, "MaxQueued:-1"}},

		{"two Init", with(dserver.Init(noop),
			dserver.Init(noop)), 2, []string{"two Init"}},
		{"two Upgrades of one version", with(dserver.Upgrade(1, older),
			dserver.Upgrade(1, older)), 2, []string{"two Upgrades from version 1"}},
		{"an Upgrade from nothing", with(dserver.Upgrade(0, older)), 1, []string{"version 0"}},
		{"two HandleLocked of one message", with(dserver.HandleLocked(work, apply),
			dserver.HandleLocked(work, apply)), 2, []string{"two HandleLocked", "Plain"}},
		{"request given to HandleLocked", with(dserver.HandleLocked(askedWork, askedApply)), 1, []string{"Answered", "HandleLockedCall"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := panicOf(t, c.define)
			for _, want := range c.text {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in: %s", want, text)
				}
			}
			if places := placesIn(text); len(places) < c.places {
				t.Errorf("%d places wanted in: %s", c.places, text)
			}
		})
	}
}

func panicOf(t *testing.T, fn func()) (text string) {
	t.Helper()
	defer func() {
		p := recover()
		if p == nil {
			t.Fatal("it was taken")
		}
		text = fmt.Sprint(p)
		if !strings.Contains(text, "dserver: ") {
			t.Errorf("it panicked otherwise: %s", text)
		}
	}()
	fn()
	return ""
}

// placesIn returns the different places in the tests that a text names.
func placesIn(text string) map[string]bool {
	places := map[string]bool{}
	for _, place := range regexp.MustCompile(`\w+_test\.go:\d+`).FindAllString(text, -1) {
		places[place] = true
	}
	return places
}

func TestRunRefusesWhatItCannotServe(t *testing.T) {
	db := backendtest.NewModel()
	twin := dserver.Define("journal",
		cast[Plain]())
	for _, c := range []struct {
		name   string
		types  []dserver.Type
		places int
		text   []string
	}{
		{"two types of one name", []dserver.Type{journals, twin}, 2, []string{"two types", `"journal"`}},
		{"one type twice", []dserver.Type{journals, journals}, 1, []string{"two types", `"journal"`}},
		{"an address", []dserver.Type{journal}, 1, []string{"without handlers", `"journal"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := panicOf(t, func() { _ = dserver.Run(context.Background(), db, c.types...) })
			for _, want := range c.text {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in: %s", want, text)
				}
			}
			if len(placesIn(text)) < c.places {
				t.Errorf("%d places wanted in: %s", c.places, text)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := dserver.Run(ctx, db, journals, counters); err != nil { // the refused ones left nothing behind
		t.Error(err)
	}
}

// With leaves the definition that it was called on alone.
func TestWithLeavesTheAddressAlone(t *testing.T) {
	db := backendtest.NewModel()
	address := dserver.Define[Counter]("counter")
	served := address.With(dserver.HandleCast(func(_ *dserver.Context, c *Counter, m Increment) error {
		c.Count += m.By
		return nil
	}))
	text := panicOf(t, func() { _ = dserver.Run(context.Background(), db, address) })
	if !strings.Contains(text, "without handlers") {
		t.Error(text)
	}
	start(t, db, served)
	must(t, address.At(db, "a").Cast(within(t), Increment{1}))
	if address.Name() != served.Name() || address.Ref("a") != served.Ref("a") {
		t.Error("they are two servers")
	}
}

// Programs that the compiler must refuse, and what it says. Each is the body of a package that imports this one.
var wrongPrograms = []struct{ name, program, says string }{
	{"a call handler that returns another type", `
		type Value struct{ dserver.Returns[int64] }
		var _ = dserver.Define("c", dserver.HandleCall(func(*dserver.Context, *S, Value) (int, error) { return 0, nil }))`,
		`returns`},
	{"a call handler of a message without Returns", `
		type Plain struct{}
		var _ = dserver.Define("c", dserver.HandleCall(func(*dserver.Context, *S, Plain) (int, error) { return 0, nil }))`,
		`Plain. does not satisfy`},
	{"a call handler without a reply", `
		type Value struct{ dserver.Returns[int64] }
		var _ = dserver.Define("c", dserver.HandleCall(func(*dserver.Context, *S, Value) error { return nil }))`,
		`does not match`},
	{"a cast handler with a reply", `
		type Plain struct{}
		var _ = dserver.Define("c", dserver.HandleCast(func(*dserver.Context, *S, Plain) (int, error) { return 0, nil }))`,
		`does not match`},
	{"a handler of another state", `
		type T struct{}
		type Plain struct{}
		var _ = dserver.Define[S]("c", dserver.HandleCast(func(*dserver.Context, *T, Plain) error { return nil }))`,
		`cannot use|does not match`},
	{"handlers of two states", `
		type T struct{}
		type A struct{}
		type B struct{}
		var _ = dserver.Define("c",
			dserver.HandleCast(func(*dserver.Context, *S, A) error { return nil }),
			dserver.HandleCast(func(*dserver.Context, *T, B) error { return nil }))`,
		`does not match|cannot use`},
	{"a handler of another state in With", `
		type T struct{}
		type Plain struct{}
		var c = dserver.Define[S]("c")
		var _ = c.With(dserver.HandleCast(func(*dserver.Context, *T, Plain) error { return nil }))`,
		`cannot use`},
	{"an Init of another state", `
		type T struct{}
		var _ = dserver.Define[S]("c", dserver.Init(func(*dserver.Context, *T) error { return nil }))`,
		`cannot use`},
	{"a handler with a state that is no pointer", `
		type Plain struct{}
		var _ = dserver.Define[S]("c", dserver.HandleCast(func(*dserver.Context, S, Plain) error { return nil }))`,
		`does not match`},
	{"a handler with a context.Context", `
		type Plain struct{}
		var _ = dserver.Define[S]("c", dserver.HandleCast(func(context.Context, *S, Plain) error { return nil }))`,
		`does not match`},
	{"a typed call of a message without Returns", `
		type Plain struct{}
		func f(ctx context.Context, s *dserver.DServer[S]) { _, _ = dserver.Call(ctx, s, Plain{}) }`,
		`does not match|does not implement|cannot infer`},
	{"a reply that is taken for another type", `
		type Value struct{ dserver.Returns[int64] }
		func f(ctx context.Context, s *dserver.DServer[S]) (n int, err error) { n, err = dserver.Call(ctx, s, Value{}); return n, err }`,
		`cannot use|cannot assign|does not match`},
	{"a query of a message without Returns", `
		type Plain struct{}
		func f(ctx context.Context, s *dserver.DServer[S]) { _, _ = dserver.Query(ctx, s, Plain{}) }`,
		`does not match|does not implement|cannot infer`},
	{"a late reply of another type", `
		func f(ctx *dserver.Context, from dserver.From[int]) { from.Reply(ctx, "text") }`,
		`cannot use`},
	{"a late reply to a message without Returns", `
		type Plain struct{}
		func f(ctx *dserver.Context) { _ = dserver.ReplyLater(ctx, Plain{}) }`,
		`does not match|does not implement|cannot infer`},
	{"a type of one's own among those that Run serves", `
		type mine struct{}
		func (mine) Name() string { return "mine" }
		var _ dserver.Type = mine{}`,
		`missing method sealed|unexported method sealed`},
	{"a part of one's own", `
		type mine struct{}
		var _ dserver.Part[S] = mine{}`,
		`addTo`},
	{"an apply that takes something else than work found", `
		type Pay struct{}
		var _ = dserver.HandleLocked(
			func(*dserver.LockedContext, S, Pay) (string, error) { return "", nil },
			func(*dserver.Context, *S, Pay, int) error { return nil })`,
		`does not match`},
	{"an apply that returns another type", `
		type Pay struct{ dserver.Returns[string] }
		var _ = dserver.HandleLockedCall(
			func(*dserver.LockedContext, S, Pay) (string, error) { return "", nil },
			func(*dserver.Context, *S, Pay, string) (int, error) { return 0, nil })`,
		`returns`},
	{"work that changes the state", `
		type Pay struct{}
		var _ = dserver.HandleLocked(
			func(*dserver.LockedContext, *S, Pay) (string, error) { return "", nil },
			func(*dserver.Context, *S, Pay, string) error { return nil })`,
		`does not match`},
	{"a handler that names its own definition", `
		type Plain struct{}
		var cs = dserver.Define("c", dserver.HandleCast(func(ctx *dserver.Context, s *S, m Plain) error {
			ctx.Cast(cs.Ref("other"), m)
			return nil
		}))`,
		`initialization cycle`},
	{"an unkeyed literal of a request", `
		type Buy struct { dserver.Returns[int]; Seat int }
		var _ = Buy{5}`,
		`too few values|cannot use`},
}

const rightProgram = `
	type Value struct{ dserver.Returns[int64] }
	var address = dserver.Define[S]("c")
	var served = address.With(dserver.HandleCall(func(ctx *dserver.Context, s *S, m Value) (int64, error) {
		ctx.Cast(address.Ref("other"), m)
		return s.N, nil
	}))
	func f(ctx context.Context, s *dserver.DServer[S]) (n int64, err error) { n, err = dserver.Call(ctx, s, Value{}); return n, err }`

// The compiler is asked once, for all programs: they stand in an overlay, each in a package of its own.
func TestWrongProgramsDoNotCompile(t *testing.T) {
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	here, err := os.Getwd()
	must(t, err)
	add := func(name, program string) {
		file := filepath.Join(dir, name+".go")
		text := "package p\n\nimport (\n\t\"context\"\n\n\t\"github.com/dserver-go/dserver/dserver\"\n)\n\n" +
			"type S struct{ N int64 }\n\nvar _ context.Context\n" + program + "\n"
		must(t, os.WriteFile(file, []byte(text), 0o600))
		overlay.Replace[filepath.Join(here, "compiled", name, "p.go")] = file
	}
	args := slices.Concat([]string{"build"}, buildtest.Flags(t), []string{"-overlay", filepath.Join(dir, "overlay.json"), "./compiled/right"})
	add("right", rightProgram)
	for i, c := range wrongPrograms {
		add(fmt.Sprint("wrong", i), c.program)
		args = append(args, fmt.Sprint("./compiled/wrong", i))
	}
	list, err := json.Marshal(overlay)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o600))
	out, err := exec.Command("go", args...).CombinedOutput()
	if err == nil {
		t.Fatal("all of them compile")
	}
	said := map[string]string{}
	for _, part := range strings.Split("\n"+string(out), "\n# ")[1:] {
		path, text, _ := strings.Cut(part, "\n")
		said[filepath.Base(strings.Fields(path)[0])] = text
	}
	if text, failed := said["right"]; failed || len(said) == 0 {
		t.Fatalf("the right program does not compile: %s\n%s", text, out)
	}
	for i, c := range wrongPrograms {
		text := said[fmt.Sprint("wrong", i)]
		if !regexp.MustCompile(c.says).MatchString(text) {
			t.Errorf("%s: the compiler says %q, without %q", c.name, text, c.says)
		}
	}
}
