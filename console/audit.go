package console

import (
	"context"
	"net/http"
	"strings"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
)

// How many acts a page shows, and how many it looks through for those that it shows.
const (
	auditRows   = 50
	auditLooked = 5000
	serverActs  = 10
)

// actRow is what an operator did.
type actRow struct {
	dserver.Act
	Before, After string // on one line
}

func newActRow(a dserver.Act) actRow { return actRow{a, keptText(a.Before), keptText(a.After)} }

func keptText(k *dserver.Kept) string {
	if k == nil {
		return ""
	}
	text := "(" + size(k.Bytes) + ")"
	if k.Body != nil {
		text = oneLine(k.Body, keptRunes)
	}
	if k.Name != "" {
		text = display.Quoted(k.Name) + " " + text
	}
	return text
}

// HasMessage reports whether it was about a message.
func (a actRow) HasMessage() bool { return !a.Message.IsZero() }

// auditData is what the page of what operators did shows.
type auditData struct {
	Rows   []actRow
	By     string
	Server string
	Cut    bool   // it did not look further
	After  string // where the next page begins; "" when there is none
}

type auditSource struct {
	db     backend.Database
	by     string
	server string
	after  backend.Versionstamp
}

func (c *console) audit(r *http.Request) (*view, error) {
	q := r.URL.Query()
	s := auditSource{db: c.db}
	var err error
	if s.by, err = display.Unquoted(strings.TrimSpace(q.Get("by"))); err != nil {
		return nil, badRequest(err.Error())
	}
	if s.server, err = display.Unquoted(strings.TrimSpace(q.Get("server"))); err != nil {
		return nil, badRequest(err.Error())
	}
	v := &view{name: "audit", title: "Audit", section: "audit", regions: []string{"list"}, source: s}
	if after := q.Get("after"); after != "" {
		if s.after, err = stampIn(after); err != nil {
			return nil, err
		}
		v.regions, v.source = nil, s // what is older does not change
	}
	return v, nil
}

func (s auditSource) load(ctx context.Context) (any, error) {
	d := auditData{By: s.by, Server: s.server}
	rows, cut, err := acts(ctx, s.db, auditRows, auditLooked, s.takes)
	d.Rows = rows
	switch {
	case cut && len(rows) == auditRows:
		d.After = rows[len(rows)-1].Stamp.String()
	case cut:
		d.Cut = true
	}
	return d, err
}

func (s auditSource) takes(a dserver.Act) bool {
	return (s.by == "" || a.By == s.by) && (s.server == "" || a.Ref.String() == s.server) && (s.after.IsZero() || a.Stamp.Compare(s.after) < 0)
}

// acts is the latest that are taken, of those that are looked through. cut tells that there may be more.
func acts(ctx context.Context, db backend.Database, most, looks int, takes func(dserver.Act) bool) (rows []actRow, cut bool, err error) {
	looked := 0
	for a, err := range dserver.Audit(ctx, db) {
		if err != nil {
			return nil, false, err
		}
		if looked++; looked > looks {
			return rows, true, nil
		}
		if !takes(a) {
			continue
		}
		if len(rows) == most {
			return rows, true, nil
		}
		rows = append(rows, newActRow(a))
	}
	return rows, false, nil
}
