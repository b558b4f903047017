package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// Trail is a state that tells which headers its messages had.
type Trail struct{ Seen []string }

type (
	Footmark  struct{ Label string }
	Footprint struct {
		dserver.Returns[string]
		Label string
	}
	Forward struct{ How, Label string } // sends a Footmark to the server itself
	Slip    struct{ Label string }      // faults once
	Balk    struct{ Label string }      // is refused, unless a header says that it was mended
	Tow     struct{ Label string }      // is locked work
	Wander  struct{}                    // tells its stamp
)

// headed is the headers in the order of their keys.
func headed(h map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(h)) {
		all = append(all, key+"="+h[key])
	}
	return strings.Join(all, " ")
}

var trails = dserver.Define("trail",
	dserver.Settings[Trail]{BackOff: time.Millisecond, MaxBackOff: time.Millisecond},
	dserver.HandleCast(func(ctx *dserver.Context, s *Trail, m Footmark) error { return s.note(ctx, m.Label) }),
	dserver.HandleInfo(func(ctx *dserver.Context, s *Trail, m Footmark) error { return s.note(ctx, m.Label) }),
	dserver.HandleCall(func(ctx *dserver.Context, s *Trail, m Footprint) (string, error) {
		return headed(ctx.Headers()), s.note(ctx, m.Label)
	}),
	dserver.HandleCast(func(ctx *dserver.Context, _ *Trail, m Forward) error {
		note := Footmark{m.Label}
		switch m.How {
		case "cast":
			ctx.Cast(ctx.Self(), note)
		case "after":
			ctx.Cast(ctx.Self(), note, dserver.After(time.Millisecond))
		case "more":
			ctx.Cast(ctx.Self(), note, dserver.Header("hop", "2"), dserver.Header("trace", "other"))
		case "less":
			ctx.Cast(ctx.Self(), note, dserver.Header("trace", ""))
		case "timer":
			ctx.SetTimer("t", time.Millisecond, note, dserver.Header("hop", "timer"))
		case "many":
			for i := range 64 {
				ctx.Cast(ctx.Self(), note, dserver.Header(fmt.Sprint(i), "x"))
			}
			ctx.Cast(ctx.Self(), note, manyHeaders(64)...)
		}
		return nil
	}),
	dserver.HandleCast(func(ctx *dserver.Context, s *Trail, m Slip) error {
		if ctx.Attempt() == 1 {
			panic("it slipped")
		}
		return s.note(ctx, fmt.Sprint(m.Label, " at attempt ", ctx.Attempt()))
	}),
	dserver.HandleCast(func(ctx *dserver.Context, s *Trail, m Balk) error {
		if ctx.Header("mended") == "" {
			return errors.New("it balked")
		}
		return s.note(ctx, m.Label)
	}),
	dserver.HandleLocked(
		func(ctx *dserver.LockedContext, _ Trail, m Tow) (string, error) {
			if ctx.Attempt() == 1 {
				return "", errors.New("the rope broke")
			}
			return fmt.Sprintf("%s hauled at attempt %d with %s, queued %v, sent %v", m.Label, ctx.Attempt(), headed(ctx.Headers()),
				!ctx.Stamp().IsZero(), !ctx.Sent().IsZero() && ctx.Header("trace") != ""), nil
		},
		func(ctx *dserver.Context, s *Trail, m Tow, found string) error {
			s.Seen = append(s.Seen, found)
			ctx.Cast(ctx.Self(), Footmark{m.Label + " told"})
			return s.note(ctx, m.Label)
		}),
)

func (s *Trail) note(ctx *dserver.Context, label string) error {
	s.Seen = append(s.Seen, strings.TrimSuffix(label+": "+headed(ctx.Headers()), ": "))
	return nil
}

func manyHeaders(n int) (opts []dserver.Option) {
	for i := range n {
		opts = append(opts, dserver.Header(fmt.Sprint("key ", i), "x"))
	}
	return opts
}

// expectTrail waits until the server has seen this, in any order.
func expectTrail(t *testing.T, s *dserver.DServer[Trail], want ...string) {
	t.Helper()
	slices.Sort(want)
	var got []string
	eventually(t, fmt.Sprint("seen: ", want), func() bool {
		state, err := s.State(t.Context())
		got = slices.Sorted(slices.Values(state.Seen))
		if err == nil && len(got) >= len(want) && !slices.Equal(got, want) {
			t.Fatalf("seen %q, not %q", got, want)
		}
		return slices.Equal(got, want)
	})
}

// A header is with its message wherever that is kept, and with what is sent because of it.
func TestHeadersTravelWithTheirMessage(t *testing.T) {
	trace := dserver.Header("trace", "t-1")
	for name, c := range map[string]struct {
		send any
		opts []dserver.Option
		want []string
	}{
		"none":           {send: Footmark{"n"}, want: []string{"n"}},
		"plain":          {send: Footmark{"n"}, opts: []dserver.Option{trace}, want: []string{"n: trace=t-1"}},
		"two":            {send: Footmark{"n"}, opts: []dserver.Option{trace, dserver.Header("a", "ü")}, want: []string{"n: a=ü trace=t-1"}},
		"the last":       {send: Footmark{"n"}, opts: []dserver.Option{trace, dserver.Header("trace", "t-2")}, want: []string{"n: trace=t-2"}},
		"taken away":     {send: Footmark{"n"}, opts: []dserver.Option{trace, dserver.Header("trace", "")}, want: []string{"n"}},
		"after":          {send: Footmark{"n"}, opts: []dserver.Option{trace, dserver.After(time.Millisecond)}, want: []string{"n: trace=t-1"}},
		"priority, once": {send: Footmark{"n"}, opts: []dserver.Option{trace, dserver.Priority(), dserver.Once("k")}, want: []string{"n: trace=t-1"}},
		"attempts":       {send: Slip{"s"}, opts: []dserver.Option{trace, dserver.Priority()}, want: []string{"s at attempt 2: trace=t-1"}},
		"cast":           {send: Forward{"cast", "p"}, opts: []dserver.Option{trace}, want: []string{"p: trace=t-1"}},
		"cast, after":    {send: Forward{"after", "p"}, opts: []dserver.Option{trace}, want: []string{"p: trace=t-1"}},
		"cast, more":     {send: Forward{"more", "p"}, opts: []dserver.Option{trace}, want: []string{"p: hop=2 trace=other"}},
		"cast, less":     {send: Forward{"less", "p"}, opts: []dserver.Option{trace, dserver.Header("a", "1")}, want: []string{"p: a=1"}},
		"timer":          {send: Forward{"timer", "p"}, opts: []dserver.Option{trace}, want: []string{"p: hop=timer trace=t-1"}},
		"locked": {send: Tow{"h"}, opts: []dserver.Option{trace}, want: []string{
			"h: trace=t-1", "h told: trace=t-1", "h hauled at attempt 2 with trace=t-1, queued true, sent true",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() backend.Database) {
				db, ctx := open(), within(t)
				start(t, db, trails)
				for _, from := range []backend.Database{db, open()} { // through memory, where it may, and through the queue
					s := trails.At(from, fmt.Sprint(from == db))
					must(t, s.Cast(ctx, c.send, c.opts...))
					expectTrail(t, s, c.want...)
				}
			})
		})
	}
}

func TestHeadersOfCallsBatchesAndInfo(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		start(t, db, trails)
		trace := dserver.Header("trace", "t-1")
		for _, from := range []backend.Database{db, open()} {
			s := trails.At(from, fmt.Sprint(from == db))
			seen, err := dserver.Call(ctx, s, Footprint{Label: "call"}, trace)
			if must(t, err); seen != "trace=t-1" {
				t.Errorf("a call has the headers %q", seen)
			}
			must(t, s.CastAll(ctx, []any{Footmark{"first"}, Footmark{"second"}}, trace))
			must(t, s.Info(ctx, Footmark{"info"}, trace))
			expectTrail(t, s, "call: trace=t-1", "first: trace=t-1", "second: trace=t-1", "info: trace=t-1")
			if err := s.Info(ctx, Footmark{"info"}, dserver.Priority()); err == nil || !strings.Contains(err.Error(), "no option but Header") {
				t.Errorf("Info with Priority: %v", err)
			}
		}
	})
}

// A dead letter has its headers, whether its message was queued or not, and keeps them when it is sent again.
func TestHeadersOfDeadLettersAreKept(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		start(t, db, trails)
		for _, from := range []backend.Database{db, open()} {
			s := trails.At(from, fmt.Sprint(from == db))
			must(t, s.Cast(ctx, Balk{"b"}, dserver.Header("trace", "t-1")))
			for d := range eventualLetters(t, s) {
				if got := headed(d.Headers); got != "trace=t-1" {
					t.Errorf("a dead letter with the headers %q", got)
				}
				d.Headers["mended"] = "yes"
				must(t, s.Retry(ctx, d))
			}
			expectTrail(t, s, "b: mended=yes trace=t-1")
		}
	})
}

// eventualLetters waits for a dead letter.
func eventualLetters(t *testing.T, s *dserver.DServer[Trail]) func(yield func(dserver.DeadLetter) bool) {
	var found []dserver.DeadLetter
	eventually(t, "a dead letter", func() bool {
		for d, err := range s.DeadLetters(t.Context()) {
			must(t, err)
			found = append(found, d)
		}
		return len(found) > 0
	})
	return slices.Values(found)
}

// Operators see the headers of what waits, on the queue and for its time.
func TestHeadersOfWhatWaitsAreSeen(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		s, ctx, trace := trails.At(open(), "a"), within(t), dserver.Header("trace", "t-1")
		must(t, s.Cast(ctx, Footmark{"now"}, trace))
		must(t, s.Cast(ctx, Footmark{"later"}, trace, dserver.After(time.Hour)))
		seen := 0
		for q, err := range s.Queue(ctx) {
			if must(t, err); headed(q.Headers) != "trace=t-1" {
				t.Errorf("queued with %v", q.Headers)
			}
			seen++
		}
		for d, err := range s.Delayed(ctx) {
			if must(t, err); headed(d.Headers) != "trace=t-1" {
				t.Errorf("delayed with %v", d.Headers)
			}
			seen++
		}
		if seen != 2 {
			t.Errorf("%d messages wait", seen)
		}
	})
}

// A key of Once is bound to the message, whose headers may differ each time it is sent.
func TestHeadersAreNoPartOfWhatAKeyIsBoundTo(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		start(t, db, trails)
		s := trails.At(db, "a")
		for _, trace := range []string{"t-1", "t-2"} {
			seen, err := dserver.Call(ctx, s, Footprint{Label: "n"}, dserver.Once("k"), dserver.Header("trace", trace))
			if must(t, err); seen != "trace=t-1" {
				t.Errorf("sent with %s it was handled with %s", trace, seen)
			}
		}
	})
}

func TestHeadersThatCannotBeAreErrors(t *testing.T) {
	db := backendtest.NewStore().Open()
	s := trails.At(db, "a")
	for name, c := range map[string]struct {
		opts []dserver.Option
		want string
	}{
		"no key":      {[]dserver.Option{dserver.Header("", "x")}, "a header's key has 1 to 256 bytes, not 0"},
		"long key":    {[]dserver.Option{dserver.Header(strings.Repeat("k", 257), "x")}, "not 257"},
		"no text":     {[]dserver.Option{dserver.Header("\xff", "x")}, "is no UTF-8"},
		"no value":    {[]dserver.Option{dserver.Header("k", "\xff")}, `the value of the header "k" is no UTF-8`},
		"long value":  {[]dserver.Option{dserver.Header("k", strings.Repeat("v", 4097))}, "has 4097 bytes; at most 4096"},
		"many":        {manyHeaders(65), "a message with 65 headers; at most 64"},
		"too much":    {append(manyHeaders(60), bigHeader("a"), bigHeader("b"), bigHeader("c"), bigHeader("d")), "the headers of a message have"},
		"all allowed": {append(manyHeaders(60), bigHeader("a"), bigHeader("b"), bigHeader("c")), ""},
	} {
		err := s.Cast(t.Context(), Footmark{"n"}, c.opts...)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if status, err := s.Status(t.Context()); err != nil || status.Queued != 1 {
		t.Errorf("%d messages wait, %v", status.Queued, err)
	}
}

func bigHeader(key string) dserver.Option { return dserver.Header(key, strings.Repeat("v", 4096)) }

// What a handler sends with more headers than a message may have is an error of the handler, which says so.
func TestMoreInheritedHeadersThanAMessageMayHaveAreAnErrorOfTheHandler(t *testing.T) {
	db, ctx := newStore(t, trails).Open(), within(t)
	start(t, db, trails)
	s := trails.At(db, "a")
	err := s.Call(ctx, Forward{"many", "p"}, nil, dserver.Header("trace", "t-1"))
	if err == nil || !strings.Contains(err.Error(), "a message with 65 headers; at most 64") {
		t.Errorf("the handler ended with %v", err)
	}
}

// The largest message has room for the most headers, on the queue and as a dead letter.
func TestLargestMessageHasRoomForAllHeaders(t *testing.T) {
	db, ctx := newStore(t, trails).Open(), within(t)
	s := trails.At(db, "a")
	balk := Balk{strings.Repeat("b", 4<<20-20)}
	must(t, s.Cast(ctx, balk, append(manyHeaders(60), bigHeader("a"), bigHeader("b"), bigHeader("c"))...))
	start(t, db, trails)
	for d := range eventualLetters(t, s) {
		if len(d.Headers) != 63 {
			t.Errorf("a dead letter with %d headers", len(d.Headers))
		}
	}
}

// A handler sees where its message stands, when it was sent, and which attempt this is.
func TestContextTellsStampTimeAndAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewStore().Open()
		type seen struct {
			stamp   backend.Versionstamp
			sent    time.Time
			attempt int
		}
		var all []seen
		def := dserver.Define("trail", dserver.HandleCast(func(ctx *dserver.Context, _ *Trail, m Slip) error {
			all = append(all, seen{ctx.Stamp(), ctx.Sent(), ctx.Attempt()})
			if len(all) < 3 {
				panic("it slipped")
			}
			if m.Label == "timer" {
				return nil
			}
			ctx.SetTimer("t", time.Second, Slip{"timer"})
			return nil
		}))
		s, began := def.At(db, "a"), time.Now()
		must(t, s.Cast(t.Context(), Slip{"s"}, dserver.After(time.Hour)))
		pass(t, 2*time.Hour, db, def)
		if len(all) != 4 {
			t.Fatalf("seen %v", all)
		}
		for i, got := range all[:3] {
			if got.attempt != i+1 || got.stamp != all[0].stamp || got.stamp.IsZero() || !got.sent.Equal(began) {
				t.Errorf("attempt %d is %+v", i+1, got)
			}
		}
		if got := all[3]; got.attempt != 1 || got.stamp.Compare(all[0].stamp) <= 0 || got.sent.Before(began.Add(time.Hour)) {
			t.Errorf("the timer's is %+v", got)
		}
		all = all[1:] // it does not slip any more
		defer run(t, dserver.Consumer{}, db, def)()
		synctest.Wait()
		must(t, s.Cast(t.Context(), Slip{"inline"}))
		if got := all[len(all)-1]; !got.stamp.IsZero() || got.attempt != 1 || !got.sent.Equal(time.UnixMilli(time.Now().UnixMilli())) {
			t.Errorf("what was never queued is %+v", got)
		}
	})
}

// The zero Context has no message, and says so without a panic.
func TestZeroContextHasNoHeaders(t *testing.T) {
	var ctx dserver.Context
	if ctx.Header("a") != "" || len(ctx.Headers()) != 0 || !ctx.Stamp().IsZero() || !ctx.Sent().IsZero() || ctx.Attempt() != 1 {
		t.Error("the zero Context has a message")
	}
	locked := dserver.LockedContext{Context: context.Background()}
	if locked.Header("a") != "" || len(locked.Headers()) != 0 || !locked.Stamp().IsZero() || !locked.Sent().IsZero() {
		t.Error("the zero LockedContext has a message")
	}
}

// Headers travel through memory as well: a message that has some is no reason for the queue's way, nor for its commit.
func TestMessageWithHeadersJoinsATurn(t *testing.T) {
	db, ctx := newStore(t, trails).Open(), within(t)
	var stamps []backend.Versionstamp
	def := trails.With(dserver.HandleCast(func(ctx *dserver.Context, _ *Trail, _ Wander) error {
		stamps = append(stamps, ctx.Stamp())
		return nil
	}))
	start(t, db, def)
	must(t, def.At(db, "a").Call(ctx, Wander{}, nil)) // from then on the consumer is known to be there
	must(t, def.At(db, "a").Call(ctx, Wander{}, nil, dserver.Header("trace", "t-1")))
	if len(stamps) != 2 || !stamps[1].IsZero() {
		t.Errorf("it was queued: %v", stamps)
	}
}
