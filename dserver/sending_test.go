package dserver_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// Strange is a message that journals do not handle.
type Strange struct{ N int }

// verbs is all that sends or asks, on one handle.
func verbs(ctx context.Context, s *dserver.DServer[Journal], m any) map[string]error {
	failed := map[string]error{
		"Cast":    s.Cast(ctx, m),
		"CastAll": s.CastAll(ctx, []any{Write{"before"}, m, Write{"after"}}),
		"Call":    s.Call(ctx, m, nil),
	}
	return failed
}

// What can be refused is refused before anything is sent.
func TestWrongMessagesAreRefusedBeforeTheyAreSent(t *testing.T) {
	type unnamed = struct{ N int }
	var none *Write
	db := newStore(t, journals).Open()
	ctx := within(t)
	for _, c := range []struct {
		name    string
		message any
		is      error
		text    string
	}{
		{"without a handler", Strange{1}, dserver.ErrNoHandler, `"journal" has none for Strange`},
		{"nil", nil, nil, "nil message"},
		{"nil pointer", none, nil, "nil *dserver_test.Write"},
		{"unnamed", unnamed{1}, nil, "declare a type"},
		{"built in", 7, nil, "declare a type"},
		{"raw without a name", dserver.Message{Body: []byte{0xa0}}, nil, "without a Name"},
		{"raw with a long name", dserver.Message{Name: strings.Repeat("n", 5000), Body: []byte{0xa0}}, nil, "5000 bytes"},
		{"raw that is no CBOR", dserver.Message{Name: "Write", Body: []byte{0xa1}}, nil, "not CBOR"},
		{"raw and empty", dserver.Message{Name: "Write"}, nil, "not CBOR"},
		{"raw without a handler", dserver.Message{Name: "Strange", Body: []byte{0xa0}}, dserver.ErrNoHandler, "Strange"},
		{"too large", Write{strings.Repeat("x", 5<<20)}, backend.ErrTooLarge, "Write"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for verb, err := range verbs(ctx, journals.At(db, "a"), c.message) {
				if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
					t.Errorf("%s: %v", verb, err)
				}
			}
		})
	}
	for _, ref := range []struct{ id, text string }{{"", "without an id"}, {strings.Repeat("x", 5000), "5000 bytes"}} {
		failed := verbs(ctx, journals.At(db, ref.id), Write{"x"})
		_, failed["Query"] = dserver.Query(ctx, journals.At(db, ref.id), Lines{})
		_, failed["State"] = journals.At(db, ref.id).State(ctx)
		for verb, err := range failed {
			if err == nil || !strings.Contains(err.Error(), ref.text) {
				t.Errorf("%s with a bad id: %v", verb, err)
			}
		}
	}
	failed := verbs(ctx, journals.At(nil, "a"), Write{"x"})
	_, failed["Query"] = dserver.Query(ctx, journals.At(nil, "a"), Lines{})
	_, failed["State"] = journals.At(nil, "a").State(ctx)
	for verb, err := range failed {
		if err == nil || !strings.Contains(err.Error(), "no database") {
			t.Errorf("%s without a database: %v", verb, err)
		}
	}
	if status, err := journals.At(db, "a").Status(ctx); err != nil || status.Queued != 0 {
		t.Errorf("%+v, %v", status, err)
	}
}

// An address sends whatever it is given: only the consumer knows the handlers.
func TestAddressSendsWhatItDoesNotKnow(t *testing.T) {
	db := newStore(t).Open()
	must(t, journal.At(db, "a").Cast(within(t), Strange{1}))
	if status, err := journal.At(db, "a").Status(within(t)); err != nil || status.Queued != 1 {
		t.Errorf("%+v, %v", status, err)
	}
}

func TestClosedDatabaseAnswersErrClosed(t *testing.T) {
	db := backendtest.NewModel()
	stopped := make(chan error, 1)
	go func() { stopped <- dserver.Run(context.Background(), db, journals) }()
	s := journals.At(db, "a")
	_ = lines(t, s)
	must(t, db.Close())
	if err := <-stopped; !errors.Is(err, backend.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
	failed := verbs(within(t), s, Write{"x"})
	_, failed["Query"] = dserver.Query(within(t), s, Lines{})
	_, failed["State"] = s.State(within(t))
	failed["Run"] = dserver.Run(within(t), db, journals)
	for verb, err := range failed {
		if !errors.Is(err, backend.ErrClosed) {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

// CastAll is one push: contiguous, in order, all or nothing.
func TestCastAllIsContiguous(t *testing.T) {
	store := newStore(t, journals)
	db := store.Open()
	start(t, db, journals)
	const batches, size = 40, 7
	done := make(chan struct{})
	go func() { // others send at the same time
		defer close(done)
		for i := range batches {
			if err := journal.At(db, "a").Cast(within(t), Write{"other"}); err != nil {
				t.Errorf("cast %d: %v", i, err)
			}
		}
	}()
	remote := journal.At(store.Open(), "a")
	for range batches {
		ms := make([]any, size)
		for i := range ms {
			ms[i] = Write{"abcdefg"[i : i+1]}
		}
		must(t, remote.CastAll(within(t), ms))
	}
	<-done
	text := strings.ReplaceAll(strings.Join(lines(t, journal.At(db, "a")), ""), "other", ",")
	if n := strings.Count(text, "abcdefg"); n != batches || len(text) != batches*(size+1) {
		t.Errorf("%d batches of %d are whole: %s", n, batches, text)
	}
	must(t, remote.CastAll(within(t), nil))
}

// What was passed may be changed as soon as a method returns, and what was returned is nobody else's.
func TestNobodySharesMemoryWithAState(t *testing.T) {
	type Keep struct{ Data []byte }
	type Give struct{ dserver.Returns[[]byte] }
	type Held struct{ Data []byte }
	held := dserver.Define("held",
		dserver.HandleCast(func(_ *dserver.Context, h *Held, m Keep) error { h.Data = m.Data; return nil }),
		dserver.HandleCall(func(_ *dserver.Context, h *Held, _ Give) ([]byte, error) { return h.Data, nil }),
	)
	store := newStore(t, held)
	db := store.Open()
	start(t, db, held)
	want := []byte("kept")
	for _, s := range []*dserver.DServer[Held]{held.At(db, "a"), held.At(store.Open(), "a")} {
		passed := bytes.Clone(want)
		must(t, s.Cast(within(t), Keep{passed}))
		copy(passed, "gone")
		for range 2 {
			got, err := dserver.Call(within(t), s, Give{})
			if !bytes.Equal(got, want) || err != nil {
				t.Fatalf("Call: %q, %v", got, err)
			}
			copy(got, "gone")
		}
		got, err := dserver.Query(within(t), s, Give{})
		if !bytes.Equal(got, want) || err != nil {
			t.Fatalf("Query: %q, %v", got, err)
		}
		copy(got, "gone")
		state, err := s.State(within(t))
		if !bytes.Equal(state.Data, want) || err != nil {
			t.Fatalf("State: %q, %v", state.Data, err)
		}
		copy(state.Data, "gone")
	}
}

// A message may be a pointer, or raw CBOR with more and fewer fields than the Go type.
func TestMessagesInAllForms(t *testing.T) {
	store := newStore(t, journals)
	db := store.Open()
	start(t, db, journals)
	remote := store.Open()
	for _, db := range []backend.Database{db, remote} {
		s := journals.At(db, "a")
		must(t, s.Cast(within(t), &Write{"pointer"}))
		must(t, s.Call(within(t), Write{"called"}, nil))
		var n int
		must(t, s.Call(within(t), &Append{Line: "asked"}, &n))
		must(t, s.Call(within(t), dserver.Message{Name: "Append", Body: []byte("\xa2\x64Line\x63raw\x64More\x01")}, &n))
		must(t, s.Cast(within(t), dserver.Message{Name: "Write", Body: []byte("\xa0")}))
		must(t, s.Call(within(t), Append{Line: "dropped"}, nil))
		var wrong string
		if err := s.Call(within(t), Append{Line: "misread"}, &wrong); err == nil || !strings.Contains(err.Error(), "decode the reply") {
			t.Errorf("a reply of another type: %v", err)
		}
	}
	once := []string{"pointer", "called", "asked", "raw", "", "dropped", "misread"}
	expectLines(t, lines(t, journals.At(db, "a")), append(once, once...)...)
}

func TestTimesKeepTheirNanoseconds(t *testing.T) {
	type Set struct{ At time.Time }
	type Get struct{ dserver.Returns[time.Time] }
	type Clock struct{ At time.Time }
	clock := dserver.Define("clock",
		dserver.HandleCast(func(_ *dserver.Context, c *Clock, m Set) error { c.At = m.At; return nil }),
		dserver.HandleCall(func(_ *dserver.Context, c *Clock, _ Get) (time.Time, error) { return c.At, nil }),
	)
	store := newStore(t, clock)
	db := store.Open()
	start(t, db, clock)
	at := time.Date(2024, 2, 29, 23, 59, 59, 123456789, time.FixedZone("there", 3600))
	for _, db := range []backend.Database{db, store.Open()} {
		must(t, clock.At(db, "a").Cast(within(t), Set{at}))
		got, err := dserver.Call(within(t), clock.At(db, "a"), Get{})
		if !got.Equal(at) || err != nil {
			t.Errorf("%v came back as %v, %v", at, got, err)
		}
	}
}

// The wait is as long as ctx: when it ends the call is not withdrawn and takes effect once somebody consumes.
func TestTrap17CallsWaitAsLongAsTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals)
		sender := journals.At(store.Open(), "a")
		answered := make(chan error, 1)
		go func() { // it has no limit
			n, err := dserver.Call(context.Background(), sender, Append{Line: "patient"})
			if err == nil && n != 1 {
				t.Errorf("%d lines", n)
			}
			answered <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		began := time.Now()
		if _, err := dserver.Call(ctx, sender, Append{Line: "impatient"}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		gone, leave := context.WithCancel(context.Background())
		leave()
		if _, err := dserver.Call(gone, sender, Append{Line: "never sent"}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		<-time.After(24 * time.Hour)
		run(t, dserver.Consumer{}, store.Open(), journals)
		must(t, <-answered)
		expectLines(t, lines(t, sender), "patient", "impatient")
	})
}

// The same beside the consumer: while its handler is busy, a caller that gives up has not sent.
func TestLocalCallerThatGivesUpBeforeItsTurnHasNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, goOn := make(chan struct{}), make(chan struct{})
		types := journals.With(dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Mark) error {
			close(began)
			<-goOn
			return nil
		}))
		db := newStore(t, types).Open()
		run(t, dserver.Consumer{}, db, types)
		synctest.Wait()
		s := types.At(db, "a")
		go func() { _ = s.Cast(context.Background(), Mark{}) }()
		<-began
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if err := s.Cast(ctx, Write{"gave up"}); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, backend.ErrCommitUnknown) {
			t.Errorf("Cast: %v", err)
		}
		if _, err := dserver.Call(ctx, s, Append{Line: "gave up"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Call: %v", err)
		}
		close(goOn)
		expectLines(t, lines(t, s))
	})
}
