package console

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// policy lets a page load what this package serves, and nothing else: no script in the page, no other host, no frame.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"frame-ancestors 'none'; form-action 'self'; base-uri 'none'"

// maxForm bounds what a form may send: a message is of nearly 4 MiB, and may be larger as JSON.
const maxForm = 16 << 20

// secured is a handler behind what holds for each request: the headers, the name of the host where hosts are given, and no acts
// from foreign pages.
func secured(next http.Handler, hosts []string) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if hosts != nil && !slices.Contains(hosts, strings.ToLower(r.Host)) {
			http.Error(w, "This console does not serve a host of this name.", http.StatusMisdirectedRequest)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		next.ServeHTTP(w, r)
	})
}

// refusal is an error with the status and the sentences that a browser gets.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

func notFound(text string) error   { return &refusal{http.StatusNotFound, text} }
func badRequest(text string) error { return &refusal{http.StatusBadRequest, text} }
func forbidden(text string) error  { return &refusal{http.StatusForbidden, text} }

// statusOf is the status and the sentences of an error.
func statusOf(err error) (status int, text string) {
	var r *refusal
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &r):
		return r.status, r.text
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge, "This form is too large. The tool takes a body from a file: dserver edit --body -."
	case errors.Is(err, dserver.ErrChanged):
		return http.StatusConflict, "Somebody has changed it since you looked: " + err.Error() + ". Nothing was done. Look at it again."
	case errors.Is(err, dserver.ErrNotFound):
		return http.StatusNotFound, "It is not there any more: " + err.Error() + ". Nothing was done."
	case errors.Is(err, backend.ErrCommitUnknown):
		return http.StatusServiceUnavailable, "It is not known whether this was done: " + err.Error() + ". Look before you try again."
	case errors.Is(err, backend.ErrTooLarge):
		return http.StatusRequestEntityTooLarge, err.Error()
	case errors.Is(err, backend.ErrClosed):
		return http.StatusServiceUnavailable, "The database is closed."
	}
	return http.StatusInternalServerError, err.Error()
}

// user is who asks, and whether they may act.
func (c *console) user(r *http.Request) (u User, err error) {
	if c.options.Authorize != nil {
		if u, err = c.options.Authorize(r); err != nil {
			return User{}, forbidden(err.Error())
		}
	}
	u.Act = u.Act && c.options.Authorize != nil && !c.options.ReadOnly
	return u, nil
}
