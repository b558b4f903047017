package console

import (
	"net/http"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/display"
)

// What tests look at.
var (
	EncodeName, DecodeName = encodeName, decodeName
	Quoted                 = display.Quoted
)

// HandlerWithHistory is a console that has seen an hour already. value is what waited, and so on, in each of its steps.
func HandlerWithHistory(db backend.Database, options Options, types []string, value func(name string, step int) float64) http.Handler {
	c := newConsole(db, options)
	h := c.reader.history
	all := map[string]*series{"queued": h.queued, "oldest": h.oldest, "handled": h.handled, "trouble": h.trouble, "dead": h.dead, "consumers": h.consumers}
	for _, name := range types {
		h.types[name] = newSeries()
		all["type "+name] = h.types[name]
	}
	now := time.Now()
	for name, s := range all {
		for step := range chartSteps - 1 {
			s.add(now.Add(time.Duration(step-chartSteps+1)*chartStep), value(name, step))
		}
	}
	return c.handler()
}
