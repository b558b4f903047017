package console

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
)

// How much of each thing a server's page shows.
const (
	messageRows = 25
	laterRows   = 10
	bodyRunes   = 120
	keptRunes   = 80
	actsLooked  = 500
	actsPause   = 3 * time.Second // from one look at what operators did to the next
)

// messageRow is a message in a table.
type messageRow struct {
	Stamp    backend.Versionstamp
	Name     string
	Priority bool
	Call     bool
	Sent     time.Time // of one that waits
	Since    time.Time // of a dead letter
	Attempts int
	Code     string
	Error    string // its first line
	Body     string // on one line
	Fails    *dserver.Failing
}

// laterRow is what was sent with After.
type laterRow struct {
	dserver.Delayed
	First string // the name of the first message
}

// timerRow is a timer.
type timerRow struct {
	dserver.Timer
	Body string
}

// serverData is what a server's page shows.
type serverData struct {
	Ref      dserver.Ref
	Gone     bool // nothing is stored of it
	Status   dserver.Status
	Words    string
	Urgency  display.Urgency
	Troubles []display.Trouble
	Holder   *presence // of the lock, when it is known

	Tree    *node
	NoState string

	Queue     []messageRow
	QueueMore bool
	Dead      []messageRow
	DeadMore  bool
	Later     []laterRow
	LaterMore bool
	Timers    []timerRow
	MoreTimer bool
	Acts      []actRow
}

// Tone is the colour of the words.
func (d serverData) Tone() display.Urgency { return toneOf(d.Urgency) }

// serverSource loads a server. While somebody looks, it follows its state, of which there is one watch of the store, and asks
// for all else often.
type serverSource struct {
	db  backend.Database
	ref dserver.Ref

	mu       sync.Mutex
	followed bool
	state    any
	err      error

	acts   []actRow
	looked time.Time // at what operators did
}

func (c *console) server(r *http.Request) (*view, error) {
	ref, err := refIn(r)
	if err != nil {
		return nil, err
	}
	return &view{
		name: "server", title: display.Quoted(ref.String()),
		regions: []string{"head", "facts", "state", "queue", "dead", "later", "timers", "acts"},
		source:  &serverSource{db: c.db, ref: ref},
	}, nil
}

func (s *serverSource) pace() time.Duration { return fastPace }

// follow has the state told.
func (s *serverSource) follow(ctx context.Context, changed func()) {
	for state, err := range s.ref.At(s.db).Follow(ctx) {
		if ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		s.followed, s.state, s.err = true, state, err
		s.mu.Unlock()
		changed()
	}
}

// stateNow is the state that was told, or is read where nobody follows it. Without a state it is nil.
func (s *serverSource) stateNow(ctx context.Context) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.followed {
		return s.state, s.err
	}
	state, err := s.ref.At(s.db).State(ctx)
	if errors.Is(err, dserver.ErrNotFound) {
		return nil, nil
	}
	return state, err
}

func (s *serverSource) load(ctx context.Context) (any, error) {
	srv := s.ref.At(s.db)
	status, err := srv.Status(ctx)
	if err != nil {
		return nil, err
	}
	d := serverData{Ref: s.ref, Status: status, Gone: status.IsZero(), Words: display.Status(status), Troubles: display.Troubles(status)}
	if len(d.Troubles) > 0 {
		d.Urgency = d.Troubles[0].Urgency
	}
	state, err := s.stateNow(ctx)
	switch {
	case errors.Is(err, dserver.ErrState) || errors.Is(err, backend.ErrCorrupt):
		d.NoState = err.Error()
	case err != nil:
		return nil, err
	case state != nil:
		d.Tree = treeOf(state)
	}
	if err := s.lists(ctx, srv, &d); err != nil {
		return nil, err
	}
	if status.Locked && status.Lock.Process != "" {
		if d.Holder, err = holder(ctx, s.db, status.Lock.Process); err != nil {
			return nil, err
		}
	}
	if time.Since(s.looked) > actsPause {
		if s.acts, _, err = acts(ctx, s.db, serverActs, actsLooked, func(a dserver.Act) bool { return a.Ref == s.ref }); err != nil {
			return nil, err
		}
		s.looked = time.Now()
	}
	d.Acts = s.acts
	return d, nil
}

func (s *serverSource) lists(ctx context.Context, srv *dserver.DServer[any], d *serverData) (err error) {
	failing := map[backend.Versionstamp]*dserver.Failing{}
	for i, f := range d.Status.Failing {
		failing[f.Stamp] = &d.Status.Failing[i]
	}
	waits := func(q dserver.Queued) messageRow {
		row := queuedRow(q)
		row.Fails = failing[q.Stamp]
		return row
	}
	if d.Queue, d.QueueMore, err = first(srv.Queue(ctx), messageRows, waits); err != nil {
		return err
	}
	if d.Dead, d.DeadMore, err = first(srv.DeadLetters(ctx), messageRows, letterRow); err != nil {
		return err
	}
	if d.Later, d.LaterMore, err = first(srv.Delayed(ctx), laterRows, newLaterRow); err != nil {
		return err
	}
	d.Timers, d.MoreTimer, err = first(srv.Timers(ctx), laterRows, func(t dserver.Timer) timerRow {
		return timerRow{t, oneLine(t.Message.Body, bodyRunes)}
	})
	return err
}

// first is the first of a list.
func first[From, To any](all iter.Seq2[From, error], most int, as func(From) To) (rows []To, more bool, err error) {
	for found, err := range all {
		if err != nil {
			return nil, false, err
		}
		if len(rows) == most {
			return rows, true, nil
		}
		rows = append(rows, as(found))
	}
	return rows, false, nil
}

func queuedRow(q dserver.Queued) messageRow {
	return messageRow{
		Stamp: q.Stamp, Name: q.Message.Name, Priority: q.Priority, Call: q.Call, Sent: q.Sent, Body: oneLine(q.Message.Body, bodyRunes),
	}
}

func letterRow(d dserver.DeadLetter) messageRow {
	return messageRow{
		Stamp: d.Stamp, Name: d.Message.Name, Since: d.Since, Attempts: d.Attempts, Code: d.Err.Code, Error: firstLine(d.Err.Text),
		Body: oneLine(d.Message.Body, bodyRunes),
	}
}

func newLaterRow(d dserver.Delayed) laterRow {
	row := laterRow{Delayed: d}
	if len(d.Messages) > 0 {
		row.First = d.Messages[0].Name
	}
	return row
}

// holder is the process that holds a lock; nil when it does not tell of itself.
func holder(ctx context.Context, db backend.Database, process string) (*presence, error) {
	looked := 0
	for p, err := range dserver.Consumers(ctx, db) {
		if err != nil {
			return nil, err
		}
		if p.Process == process {
			found := newPresence(p)
			return &found, nil
		}
		if looked++; looked == maxConsumers {
			break
		}
	}
	return nil, nil
}
