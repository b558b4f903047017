package console

import (
	"cmp"
	"context"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
)

// kindRows is how many servers a page of a type has.
const kindRows = 50

// serverRow is a server in a table.
type serverRow struct {
	Ref     dserver.Ref
	Status  dserver.Status
	Words   string
	Urgency display.Urgency
}

// Tone is the colour of the words: dead letters are no part of what they say.
func (r serverRow) Tone() display.Urgency { return toneOf(r.Urgency) }

func toneOf(u display.Urgency) display.Urgency {
	if u == display.Dead {
		return display.Well
	}
	return u
}

func newServerRow(ref dserver.Ref, s dserver.Status) serverRow {
	row := serverRow{Ref: ref, Status: s, Words: display.Status(s)}
	if troubles := display.Troubles(s); len(troubles) > 0 {
		row.Urgency = troubles[0].Urgency
	}
	return row
}

// kindData is what the page of a type shows.
type kindData struct {
	Type    string
	Only    string // "", active or trouble
	Prefix  string // as it was given
	Sort    string
	Rows    []serverRow
	Cut     bool // more have something to do than were looked at
	Backlog dserver.Backlog
	First   bool         // it is the first page
	Next    template.URL // the query of the next page; "" when there is none
}

type kindSource struct {
	db                        backend.Database
	typ, given, prefix, after string
	only, sort                string
}

// kind is the page of a type: all its servers in the order of their ids, page by page, or those that have something to do, which
// are found by an index.
func (c *console) kind(r *http.Request) (*view, error) {
	typ, isType := decodeName(r.PathValue("type"))
	if !isType || typ == "" || strings.Contains(typ, "/") {
		return nil, notFound("This address names no type.")
	}
	q := r.URL.Query()
	s := kindSource{db: c.db, typ: typ, only: q.Get("only"), sort: q.Get("sort"), given: strings.TrimSpace(q.Get("prefix"))}
	var err error
	if s.prefix, err = display.Unquoted(s.given); err != nil {
		return nil, badRequest(err.Error())
	}
	after, err := base64.RawURLEncoding.DecodeString(q.Get("after"))
	if err != nil {
		return nil, badRequest("This is no page of the list.")
	}
	s.after = string(after)
	if !slices.Contains([]string{"", "active", "trouble"}, s.only) || !slices.Contains([]string{"", "queued", "dead", "attempts"}, s.sort) {
		return nil, badRequest("This is no list of servers.")
	}
	return &view{name: "kind", title: display.Quoted(typ), section: "overview", regions: []string{"summary", "list"}, source: s}, nil
}

func (s kindSource) load(ctx context.Context) (any, error) {
	d := kindData{Type: s.typ, Only: s.only, Prefix: s.given, Sort: s.sort, First: s.after == ""}
	var err error
	if d.Backlog, err = dserver.BacklogOf(ctx, s.db, s.typ); err != nil {
		return nil, err
	}
	if s.only != "" {
		return d, s.active(ctx, &d)
	}
	for ref, err := range dserver.ServersFrom(ctx, s.db, s.typ, s.prefix, s.after) {
		if err != nil {
			return nil, err
		}
		if len(d.Rows) == kindRows {
			last := d.Rows[kindRows-1].Ref.ID
			next := url.Values{"prefix": {s.given}, "after": {base64.RawURLEncoding.EncodeToString([]byte(last))}}
			d.Next = template.URL("?" + next.Encode()) //nolint:gosec // a query that is encoded
			break
		}
		status, err := ref.At(s.db).Status(ctx)
		if err != nil {
			return nil, err
		}
		d.Rows = append(d.Rows, newServerRow(ref, status))
	}
	return d, nil
}

// active lists those that have something to do, or are in trouble.
func (s kindSource) active(ctx context.Context, d *kindData) error {
	looked := 0
	var all []serverRow
	for found, err := range dserver.Active(ctx, s.db) {
		if err != nil {
			return err
		}
		if d.Cut = looked == maxLooked; d.Cut {
			break
		}
		looked++
		if found.Ref.Type != s.typ || !strings.HasPrefix(found.Ref.ID, s.prefix) {
			continue
		}
		row := newServerRow(found.Ref, found.Status)
		if s.only == "active" || row.Urgency != display.Well {
			all = append(all, row)
		}
	}
	slices.SortStableFunc(all, s.compare)
	if len(all) > kindRows {
		d.Cut, all = true, all[:kindRows]
	}
	d.Rows = all
	return nil
}

func (s kindSource) compare(a, b serverRow) int {
	byName := cmp.Compare(a.Ref.ID, b.Ref.ID)
	switch s.sort {
	case "queued":
		return cmp.Or(cmp.Compare(b.Status.Queued, a.Status.Queued), byName)
	case "dead":
		return cmp.Or(cmp.Compare(b.Status.DeadLetters, a.Status.DeadLetters), byName)
	case "attempts":
		return cmp.Or(cmp.Compare(b.Status.Attempts, a.Status.Attempts), byName)
	}
	return cmp.Or(cmp.Compare(b.Urgency, a.Urgency), byName)
}
