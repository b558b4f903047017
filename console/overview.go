package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// How much of each thing the overview shows; their own pages show the rest.
const (
	overviewTroubles  = 5
	overviewTypes     = 50
	overviewConsumers = 8
)

// tile is a number of the overview, with its last hour.
type tile struct {
	Key, Label string
	Value      string
	At         time.Time // instead of Value: since when
	Note       string    // what it is of, in a few words
	Chart      chart
	Most       string // in the last hour
	Alert      bool   // somebody has to look
	Path       string // of the page that has more; "" when there is none
}

// overviewData is what the overview shows.
type overviewData struct {
	Tiles         []tile
	Troubles      []troubleRow
	MoreTroubles  int
	Types         []typeRow
	MoreTypes     bool
	Consumers     []presence
	MoreConsumers int
	Cut           bool // there is more to look at than was looked at
	Empty         bool // no server is stored at all
}

// typeRow is a type in a table.
type typeRow struct {
	Name    string
	Backlog dserver.Backlog
	Dead    int64
	Trouble int
	Handled string // in a second
	Chart   chart
}

type overviewSource struct{ reader *reader }

func (c *console) overview(*http.Request) (*view, error) {
	return &view{
		name: "overview", title: "Overview", section: "overview",
		regions: []string{"tiles", "troubles", "types", "consumers"},
		source:  overviewSource{c.reader},
	}, nil
}

func (s overviewSource) load(ctx context.Context) (any, error) {
	r, err := s.reader.read(ctx)
	if err != nil {
		return nil, err
	}
	d := overviewData{Cut: r.more, MoreTypes: r.moreTypes || len(r.types) > overviewTypes, Empty: len(r.types) == 0}
	for _, t := range r.troubles[:min(len(r.troubles), overviewTroubles)] {
		d.Troubles = append(d.Troubles, newTroubleRow(t))
	}
	d.MoreTroubles = len(r.troubles) - len(d.Troubles)
	for _, p := range r.consumers[:min(len(r.consumers), overviewConsumers)] {
		d.Consumers = append(d.Consumers, newPresence(p))
	}
	d.MoreConsumers = len(r.consumers) - len(d.Consumers)
	h := s.reader.history
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range r.types[:min(len(r.types), overviewTypes)] {
		row := typeRow{Name: t.name, Backlog: t.backlog, Dead: t.dead, Trouble: t.trouble, Handled: "–"}
		if r.handled != nil {
			row.Handled = perSecond(r.handled[t.name])
		}
		if s := h.types[t.name]; s != nil {
			row.Chart = s.draw(r.at)
		}
		d.Types = append(d.Types, row)
	}
	d.Tiles = tilesOf(r, h)
	return d, nil
}

func tilesOf(r *reading, h *history) []tile {
	atLeast, isPartly := "", false
	for _, t := range r.types {
		isPartly = isPartly || t.backlog.More
	}
	if isPartly {
		atLeast = "at least"
	}
	inTrouble := ""
	if r.more {
		inTrouble = "at least"
	}
	handled := "–"
	if r.handled != nil {
		handled = perSecond(r.perSecond()) + " /s"
	}
	tiles := []tile{
		{Key: "handled", Label: "Handled", Value: handled, Chart: h.handled.draw(r.at)},
		{Key: "waiting", Label: "Waiting", Value: count(r.queued()), Note: atLeast, Chart: h.queued.draw(r.at)},
		{Key: "oldest", Label: "Oldest message", Value: "–", At: r.oldest(), Chart: h.oldest.draw(r.at)},
		{Key: "trouble", Label: "In trouble", Value: count(int64(len(r.troubles))), Note: inTrouble, Chart: h.trouble.draw(r.at), Path: "trouble", Alert: len(r.troubles) > 0},
		{Key: "dead", Label: "Dead letters", Value: count(r.dead()), Note: inTrouble, Chart: h.dead.draw(r.at), Path: "trouble", Alert: r.dead() > 0},
		{Key: "consumers", Label: "Consumers", Value: count(int64(len(r.consumers))), Chart: h.consumers.draw(r.at), Path: "consumers", Alert: len(r.consumers) == 0 && r.queued() > 0},
	}
	for i := range tiles {
		t := &tiles[i]
		t.Most = count(int64(t.Chart.Most))
		switch t.Key {
		case "oldest":
			t.Most = span(time.Duration(t.Chart.Most * float64(time.Second)))
		case "handled":
			t.Most = perSecond(t.Chart.Most) + " /s"
		}
	}
	return tiles
}

// span is about how long something took.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "under 1 min"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// perSecond is a rate for people.
func perSecond(n float64) string {
	if n > 0 && n < 10 {
		return fmt.Sprintf("%.1f", n)
	}
	return count(int64(n + 0.5))
}
