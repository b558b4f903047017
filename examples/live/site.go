package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// site is a page with a counter and a button, and the stream that moves the counter. Streams end with ctx.
func site(ctx context.Context, db backend.Database) http.Handler {
	clicks := Counters.At(db, "clicks")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, page) // the browser may have gone
	})
	mux.HandleFunc("POST /click", func(w http.ResponseWriter, r *http.Request) {
		if err := clicks.Cast(r.Context(), Click{}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) { stream(ctx, w, r, clicks) })
	return mux
}

// stream is server-sent events: the count now, and whenever it is another one. A browser that is slow to read them misses
// counts, and never the last. When the stream breaks off, the browser asks for it again by itself.
func stream(ctx context.Context, w http.ResponseWriter, r *http.Request, clicks *dserver.DServer[Counter]) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	watching, leave := context.WithCancel(r.Context()) // ends when the browser has gone
	defer leave()
	defer context.AfterFunc(ctx, leave)()
	out := http.NewResponseController(w)
	for count, err := range dserver.FollowQuery(watching, clicks, Value{}) {
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(w, "data: %d\n\n", count); err != nil {
			return
		}
		if err := out.Flush(); err != nil {
			return
		}
	}
}

const page = `<!doctype html>
<title>Live</title>
<p><output id="count">?</output> clicks</p>
<button id="click">Click</button>
<script>
  const count = document.getElementById("count")
  const events = new EventSource("/events")
  events.onmessage = (e) => { count.textContent = e.data }
  events.onerror = () => { count.textContent = "?" }
  document.getElementById("click").onclick = () => fetch("/click", { method: "POST" })
</script>
`
