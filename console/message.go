package console

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
)

// maxShown is how many runes of a body, an error or a stack a page shows.
const maxShown = 16 << 10

// Where a message is.
const (
	onQueue   = "queue"
	setAside  = "dead"
	underLock = "lock"
	gone      = "gone"
)

// messageData is what a message's page shows.
type messageData struct {
	Ref   dserver.Ref
	Stamp backend.Versionstamp
	Where string

	Name     string
	Priority bool
	Call     bool
	Sent     time.Time
	Headers  []header
	Bytes    int
	JSON     string // of the body; "" when it is no CBOR
	Diag     string // in CBOR's diagnostic notation
	Raw      string // the bytes, when it is no CBOR
	Cut      bool   // the page does not have all of the body
	Seen     string // names what is shown, for who changes it

	Attempts, MaxAttempts int
	Since, Next           time.Time // of the last attempt, or since it is dead; of the next attempt
	Halted                bool      // nothing tries it again
	Code, Error, Stack    string
	Trace, TraceURL       string
}

// header is a pair that a message was sent with.
type header struct{ Key, Value string }

type messageSource struct {
	db       backend.Database
	ref      dserver.Ref
	stamp    backend.Versionstamp
	traceURL string
}

func (c *console) message(r *http.Request) (*view, error) {
	ref, err := refIn(r)
	if err != nil {
		return nil, err
	}
	stamp, err := stampIn(r.PathValue("stamp"))
	if err != nil {
		return nil, err
	}
	return &view{
		name: "message", title: "Message of " + display.Quoted(ref.String()), regions: []string{"all"},
		source: &messageSource{c.db, ref, stamp, c.options.TraceURL},
	}, nil
}

func (s *messageSource) load(ctx context.Context) (any, error) {
	srv := s.ref.At(s.db)
	d := messageData{Ref: s.ref, Stamp: s.stamp, Where: gone}
	status, err := srv.Status(ctx) // before the queue: who is not there then is a dead letter, or gone
	if err != nil {
		return nil, err
	}
	q, err := srv.Queued(ctx, s.stamp)
	switch {
	case err == nil:
		d.Where, d.Priority, d.Call, d.Sent = onQueue, q.Priority, q.Call, q.Sent
		s.fill(&d, q.Message, q.Headers)
	case !errors.Is(err, dserver.ErrNotFound):
		return nil, err
	default:
		letter, err := srv.DeadLetter(ctx, s.stamp)
		switch {
		case err == nil:
			d.Where, d.Attempts, d.Since, d.Code = setAside, letter.Attempts, letter.Since, letter.Err.Code
			d.Error, d.Stack = shownLines(letter.Err.Text), shownLines(letter.Stack)
			s.fill(&d, letter.Message, letter.Headers)
		case !errors.Is(err, dserver.ErrNotFound):
			return nil, err
		case status.Locked && status.Lock.Stamp == s.stamp:
			d.Where, d.Name, d.Attempts, d.Since = underLock, status.Lock.Message, status.Lock.Attempt, status.Lock.Since
		}
	}
	for _, f := range status.Failing {
		if f.Stamp == s.stamp && d.Where != setAside {
			d.Attempts, d.MaxAttempts, d.Since, d.Next, d.Halted = f.Attempts, f.MaxAttempts, f.Since, f.Next, f.Next.IsZero() && status.Halted
			d.Error, d.Stack = shownLines(f.Error), shownLines(f.Stack)
		}
	}
	return d, nil
}

func (s *messageSource) fill(d *messageData, m dserver.Message, headers map[string]string) {
	d.Name, d.Bytes, d.Seen = m.Name, len(m.Body), seenAs(m)
	for _, key := range slices.Sorted(maps.Keys(headers)) {
		d.Headers = append(d.Headers, header{key, headers[key]})
	}
	body, raw := display.Readable(m.Body)
	if raw == nil {
		d.JSON = display.Indented(body)
		if notation, err := display.Notation(m.Body); err == nil {
			d.Diag = notation
		}
	} else {
		d.Raw = hex.Dump(raw[:min(len(raw), maxShown/8)])
		d.Cut = len(raw) > maxShown/8
	}
	d.Cut = d.Cut || max(len(d.JSON), len(d.Diag)) > maxShown
	d.JSON, d.Diag = display.Shorten(d.JSON, maxShown), display.Shorten(d.Diag, maxShown)
	if d.Trace = traceOf(headers); d.Trace != "" && s.traceURL != "" {
		d.TraceURL = strings.ReplaceAll(s.traceURL, "{trace}", d.Trace)
	}
}

// traceOf is the id of a trace in the header of W3C's trace context; "" when there is none.
func traceOf(headers map[string]string) string {
	parts := strings.Split(headers["traceparent"], "-")
	if len(parts) < 4 || len(parts[1]) != 32 {
		return ""
	}
	if _, err := hex.DecodeString(parts[1]); err != nil {
		return ""
	}
	return parts[1]
}

// oneLine is a body in a table.
func oneLine(body []byte, runes int) string {
	const most = 64 << 10 // of a body that is read for a line
	if len(body) > most {
		return "(" + size(len(body)) + ")"
	}
	v, raw := display.Readable(body)
	if raw != nil {
		return display.Shorten(fmt.Sprintf("%x", raw[:min(len(raw), runes)]), runes)
	}
	return display.Shorten(display.Compact(v), runes)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return display.Visible(display.Shorten(line, 4*bodyRunes))
}

// shownLines is a text with its lines, in which what cannot be seen is escaped.
func shownLines(s string) string {
	lines := strings.Split(display.Shorten(s, maxShown), "\n")
	for i, line := range lines {
		lines[i] = display.Visible(strings.ReplaceAll(line, "\t", "    "))
	}
	return strings.Join(lines, "\n")
}

// size is a number of bytes for people.
func size(n int) string {
	const kib = 1 << 10
	switch {
	case n == 1:
		return "1 byte"
	case n < kib:
		return fmt.Sprintf("%d bytes", n)
	case n < kib*kib:
		return fmt.Sprintf("%.1f KiB", float64(n)/kib)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/kib/kib)
}

// orNameless is the name of a message as it is shown.
func orNameless(name string) string { return cmp.Or(name, "(damaged)") }
