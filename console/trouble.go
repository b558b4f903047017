package console

import (
	"context"
	"net/http"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
)

// troubleRows is how many servers in trouble a page has.
const troubleRows = 50

// troubleRow is a server that needs a person.
type troubleRow struct {
	Ref      dserver.Ref
	Status   dserver.Status
	Troubles []display.Trouble
}

func newTroubleRow(t troubled) troubleRow { return troubleRow{t.ref, t.status, t.troubles} }

// First is what is most urgent of it.
func (t troubleRow) First() display.Trouble { return t.Troubles[0] }

// Others is what is less so.
func (t troubleRow) Others() []display.Trouble { return t.Troubles[1:] }

// failing is a message that fails.
type failing struct{ dserver.Failing }

// Brief is the beginning of its error.
func (f failing) Brief() string { return display.Shorten(firstLine(f.Error), bodyRunes) }

// Failing is the message to look at; nil when there is none.
func (t troubleRow) Failing() *failing {
	for _, f := range t.Status.Failing {
		if !f.Locked {
			return &failing{f}
		}
	}
	return nil
}

// troubleData is what the page of trouble shows.
type troubleData struct {
	Rows []troubleRow
	All  int // servers in trouble that are known
	Cut  bool
}

type troubleSource struct{ reader *reader }

func (c *console) trouble(*http.Request) (*view, error) {
	return &view{name: "trouble", title: "Trouble", section: "trouble", regions: []string{"list"}, source: troubleSource{c.reader}}, nil
}

func (s troubleSource) load(ctx context.Context) (any, error) {
	r, err := s.reader.read(ctx)
	if err != nil {
		return nil, err
	}
	d := troubleData{All: len(r.troubles), Cut: r.more}
	for _, t := range r.troubles[:min(len(r.troubles), troubleRows)] {
		d.Rows = append(d.Rows, newTroubleRow(t))
	}
	return d, nil
}
