package console

import (
	"context"
	"net/http"
	"path"
	"strings"

	"github.com/dserver-go/dserver/backend"
)

// console is a handler's parts.
type console struct {
	db      backend.Database
	options Options
	context context.Context
	reader  *reader
	hub     *hub
}

// Handler is the console of a database, for a mux: below a prefix with http.StripPrefix, whose pattern ends with a slash. What
// it does for a request ends with the request, but for what Options.History says.
func Handler(db backend.Database, options Options) http.Handler {
	return newConsole(db, options).handler()
}

func newConsole(db backend.Database, options Options) *console {
	c := &console{db: db, options: options, context: options.Context, reader: newReader(db)}
	if c.context == nil {
		c.context = context.Background()
	} else if options.History {
		go c.reader.keep(c.context)
	}
	c.hub = newHub(c)
	return c
}

func (c *console) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /assets/{file}", serveAsset)
	for pattern, view := range map[string]viewer{
		"/{$}":                                c.overview,
		"/trouble":                            c.trouble,
		"/consumers":                          c.consumers,
		"/audit":                              c.audit,
		"/search":                             c.search,
		"/type/{type}":                        c.kind,
		"/server/{type}/{id}":                 c.server,
		"/server/{type}/{id}/message/{stamp}": c.message,
	} {
		mux.Handle("GET "+pattern, c.page(view))
	}
	for _, method := range []string{"GET ", "POST "} {
		mux.Handle(method+"/server/{type}/{id}/do/{verb}", c.act(serverPreparers))
		mux.Handle(method+"/server/{type}/{id}/message/{stamp}/do/{verb}", c.act(messagePreparers))
	}
	mux.Handle("GET /server/{type}/{id}/state", c.download(c.state))
	mux.Handle("GET /server/{type}/{id}/message/{stamp}/body", c.download(c.body))
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		c.fail(w, r, User{}, notFound("There is no such page."))
	})
	return secured(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "" { // the prefix without its slash, from which relative links would lead elsewhere
			given, _, _ := strings.Cut(r.RequestURI, "?")
			redirect(w, path.Base(given)+"/")
			return
		}
		mux.ServeHTTP(w, r)
	}), c.options.Hosts)
}

// redirect sends a browser to an address that is relative to that of its request.
func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// viewer makes the view that a request asks for.
type viewer func(r *http.Request) (*view, error)

// view is what a URL shows.
type view struct {
	name    string   // of its template; its regions are templates below it
	title   string   // of the page
	section string   // of the navigation
	regions []string // that change while somebody looks
	source  source
	status  int // 0 is 200
}

// source loads what a view shows.
type source interface {
	load(ctx context.Context) (any, error)
}

// page serves a view: as a page, or as the stream of its regions.
func (c *console) page(of viewer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, err := c.user(r)
		var v *view
		if err == nil {
			v, err = of(r)
		}
		if err != nil {
			c.fail(w, r, u, err)
			return
		}
		if r.URL.Query().Has("live") {
			c.hub.serve(w, r, v, u)
			return
		}
		data, err := v.source.load(r.Context())
		if err != nil {
			c.fail(w, r, u, err)
			return
		}
		c.render(w, r, v, u, data)
	})
}
