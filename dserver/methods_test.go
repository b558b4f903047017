package dserver_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Rude is a type of a program's own, each method of which may do what it likes: what Does says.
type Rude struct{ Does string }

func (r Rude) act(where string) {
	switch r.Does {
	case where:
		panic("in " + where)
	case where + " ends":
		runtime.Goexit()
	}
}

func (r Rude) MarshalText() ([]byte, error) {
	r.act("marshal")
	return []byte(r.Does), nil
}

func (r *Rude) UnmarshalText(text []byte) error {
	r.Does = string(text)
	r.act("unmarshal")
	return nil
}

type (
	RudeMessage struct{ R Rude }
	RudeName    struct{ R int }
	AskRude     struct {
		dserver.Returns[Rude]
		Does string
	}
	FailRudely struct {
		dserver.Returns[int]
		Where string
	}
)

func (m RudeName) MessageName() string {
	if m.R > 0 {
		panic("in MessageName")
	}
	return "RudeName"
}

// rudeError is an error whose methods panic.
type rudeError struct{ where string }

func (e rudeError) act(where string) {
	if e.where == where {
		panic("in " + where)
	}
	if e.where == where+" ends" {
		runtime.Goexit()
	}
}

func (e rudeError) Error() string      { e.act("Error"); return "rude" }
func (e rudeError) Unwrap() error      { e.act("Unwrap"); return nil }
func (e rudeError) Is(error) bool      { e.act("Is"); return false }
func (e rudeError) As(any) bool        { e.act("As"); return false }
func (e *rudeError) pointerOnly() bool { return e == nil }

var rudes = dserver.Define("rude", dserver.Settings[Journal]{MaxAttempts: 1},
	dserver.HandleCast(func(*dserver.Context, *Journal, RudeMessage) error { return nil }),
	dserver.HandleCall(func(_ *dserver.Context, j *Journal, m AskRude) (Rude, error) {
		j.write("asked")
		return Rude{m.Does}, nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, j *Journal, m FailRudely) (int, error) {
		j.write("failed")
		if m.Where == "nil" {
			var nobody *rudeError
			_ = nobody.pointerOnly()
			return 0, nobody
		}
		return 0, rudeError{m.Where}
	}),
	dserver.HandleCall(func(_ *dserver.Context, j *Journal, _ Lines) ([]string, error) { return j.Lines, nil }),
)

// A method of the sender's that panics is an error to it. Nothing is sent.
func TestMethodsOfAMessageMayPanicWhereItIsSent(t *testing.T) {
	db := newStore(t, rudes).Open()
	s, ctx := rudes.At(db, "a"), within(t)
	for _, m := range []any{RudeMessage{Rude{"marshal"}}, RudeMessage{Rude{"unmarshal"}}, RudeName{1}} {
		for verb, err := range map[string]error{
			"Cast": s.Cast(ctx, m), "CastAll": s.CastAll(ctx, []any{m}), "Call": s.Call(ctx, m, nil), "Info": s.Info(ctx, m),
		} {
			if err == nil || !strings.Contains(err.Error(), "panicked") {
				t.Errorf("%s of %+v: %v", verb, m, err)
			}
		}
	}
	if n := rows(t, db, "s"); n > 0 {
		t.Errorf("%d rows were written", n)
	}
}

// Wherever a method of a program's type is called for a message, its panic, or the end of its goroutine, is that
// message's alone: the caller is told, and the next one is handled.
func TestMethodsOfTheProgramsTypesMayPanic(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, far := open(), open()
		start(t, db, rudes)
		for name, s := range map[string]*dserver.DServer[Journal]{"inline": rudes.At(db, "a"), "queued": rudes.At(far, "b")} {
			ctx, cancel := context.WithCancel(within(t)) // which may end: the turn is not the caller's goroutine's
			defer cancel()
			for _, where := range []string{"Error", "Unwrap", "Is", "As", "Error ends", "Unwrap ends", "As ends", "nil"} {
				_, err := dserver.Call(ctx, s, FailRudely{Where: where})
				if where != "Is" && !errors.Is(err, dserver.ErrFault) || where == "Is" && (err == nil || err.Error() != "rude") {
					t.Errorf("%s: an error that panics in %s: %v", name, where, err)
				}
			}
			for _, does := range []string{"marshal", "marshal ends", "unmarshal"} {
				if _, err := dserver.Call(ctx, s, AskRude{Does: does}); err == nil {
					t.Errorf("%s: a reply that panics in %s came", name, does)
				}
			}
			for _, body := range []string{"unmarshal", "unmarshal ends"} {
				m := dserver.Message{Name: "RudeMessage", Body: append([]byte{0xa1, 0x61, 'R', 0x60 | byte(len(body))}, body...)}
				if err := s.Call(ctx, m, nil); !errors.Is(err, dserver.ErrFault) {
					t.Errorf("%s: a message that panics in %s: %v", name, body, err)
				}
			}
			if got := lines(t, s); len(got) != 0 {
				t.Errorf("%s: the journal has %q", name, got)
			}
		}
	})
}

// A query runs in its caller's goroutine, and tells that caller.
func TestMethodsOfAQuerysErrorMayPanic(t *testing.T) {
	db := newStore(t, rudes).Open()
	for _, where := range []string{"Error", "Unwrap", "As", "nil"} {
		if _, err := dserver.Query(within(t), rudes.At(db, "a"), FailRudely{Where: where}); !errors.Is(err, dserver.ErrFault) {
			t.Errorf("an error that panics in %s: %v", where, err)
		}
	}
	if _, err := dserver.Query(within(t), rudes.At(db, "a"), AskRude{Does: "marshal"}); err == nil {
		t.Error("a reply that panics came")
	}
}
