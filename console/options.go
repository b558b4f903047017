package console

import (
	"context"
	"net/http"
)

// Options say what a console shows, and who may do what. The zero value lets everybody who reaches the handler look, and nobody
// act.
type Options struct {
	// Title names the database on each page, such as "orders, production"; "" names nothing.
	Title string

	// Authorize says who asks, by what the program knows of its users: a session, a header of its proxy. It runs for each
	// request, but for those of assets. Its error refuses the request with 403, and its text is shown. Nil lets everybody look.
	Authorize func(*http.Request) (User, error)

	// ReadOnly lets nobody act, whatever Authorize says.
	ReadOnly bool

	// TraceURL is where a trace is shown: a URL in which {trace} stands for its id, 32 hexadecimal digits of the header
	// traceparent. "" makes no links.
	TraceURL string

	// Hosts are the values of the header Host that are served, with the port where there is one; nil is any. A console that
	// listens on a loopback address needs them: else a page of a foreign name that resolves to it could read it.
	Hosts []string

	// Context ends streams, which have no end of their own, so that a server's Shutdown need not wait for them; nil is never.
	Context context.Context

	// History lets a console look at the database every 10 seconds until Context ends, so that its charts have the last hour
	// when somebody comes. Otherwise they have what was seen while somebody looked. It needs a Context.
	History bool
}

// User is who uses a console.
type User struct {
	Name string // for the list of what was done
	Act  bool   // may act, and not only look
}
