package dservertest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/wire"
)

// moment is what an order looked like before one of its steps, or at its end.
type moment struct {
	could []string // come next
	seen  string   // the states of all servers, and what waits
	step  string   // that came next
}

// words are what the library makes at random and a program may store or send: addresses of callers, idempotency keys.
var words = regexp.MustCompile(`[A-Z2-8]{26}(\.[0-9a-z]+)?`)

// moment looks at all servers, before a step that is one of some.
func (h *Hand) moment(steps []step) moment {
	h.t.Helper()
	var m moment
	for _, s := range steps {
		m.could = append(m.could, s.what)
	}
	ctx, seen := context.Background(), ""
	h.must(h.DB.Read(ctx, func(tx backend.ReadTx) (err error) {
		seen, err = seenIn(ctx, &snapshot{Database: h.DB, tx: tx})
		return err
	}))
	m.seen = words.ReplaceAllString(seen, "(a word)")
	return m
}

func seenIn(ctx context.Context, db backend.Database) (string, error) {
	var b strings.Builder
	for typ, err := range dserver.Types(ctx, db) {
		if err != nil {
			return "", err
		}
		for ref, err := range dserver.Servers(ctx, db, typ) {
			if err == nil {
				err = seeServer(ctx, &b, db, ref)
			}
			if err != nil {
				return "", err
			}
		}
	}
	return b.String(), nil
}

func seeServer(ctx context.Context, b *strings.Builder, db backend.Database, ref dserver.Ref) error {
	s := ref.At(db)
	switch state, err := s.State(ctx); {
	case err == nil:
		fmt.Fprintf(b, "%v has the state %v\n", ref, state)
	case !errors.Is(err, dserver.ErrNotFound):
		return err
	}
	for q, err := range s.Queue(ctx) {
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "%v has the message %s %v\n", ref, q.Message.Name, bodyOf(q.Message))
	}
	for d, err := range s.DeadLetters(ctx) {
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "%v has set aside %s %v\n", ref, d.Message.Name, bodyOf(d.Message))
	}
	return nil
}

func bodyOf(m dserver.Message) (body any) {
	if err := wire.Untyped().Unmarshal(m.Body, &body); err != nil {
		return m.Body
	}
	return body
}

// differs says in what a moment is another than it was, "" if in nothing.
func (m moment) differs(was moment) string {
	if !slices.Equal(m.could, was.could) {
		return fmt.Sprintf("what could come next was %q, and is %q", was.could, m.could)
	}
	before, now := strings.Split(was.seen, "\n"), strings.Split(m.seen, "\n")
	for i := range max(len(before), len(now)) {
		if a, b := lineOf(before, i), lineOf(now, i); a != b {
			return fmt.Sprintf("there was\n\t%s\nand there is\n\t%s", a, b)
		}
	}
	return ""
}

func lineOf(lines []string, i int) string {
	if i >= len(lines) || lines[i] == "" {
		return "nothing"
	}
	return lines[i]
}
