package console

import (
	"net/http"

	"github.com/dserver-go/dserver/internal/display"
)

// What pages show a part of can be had whole: a body as it is stored, and a state as JSON.

func (c *console) body(r *http.Request) (kind string, content []byte, err error) {
	ref, err := refIn(r)
	if err != nil {
		return "", nil, err
	}
	stamp, err := stampIn(r.PathValue("stamp"))
	if err != nil {
		return "", nil, err
	}
	content, err = bodyOf(r.Context(), c.db, ref, stamp)
	return "application/cbor", content, err
}

func (c *console) state(r *http.Request) (kind string, content []byte, err error) {
	ref, err := refIn(r)
	if err != nil {
		return "", nil, err
	}
	state, err := ref.At(c.db).State(r.Context())
	if err != nil {
		return "", nil, gone404(err, "It has no state.")
	}
	return "application/json", []byte(display.Indented(display.Plain(state)) + "\n"), nil
}

// download serves something as a file, which no browser shows as a page.
func (c *console) download(of func(*http.Request) (string, []byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, err := c.user(r)
		var kind string
		var content []byte
		if err == nil {
			kind, content, err = of(r)
		}
		if err != nil {
			c.fail(w, r, u, err)
			return
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Disposition", "attachment")
		_, _ = w.Write(content) // the browser may have gone
	})
}
