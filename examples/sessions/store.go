package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Store keeps the sessions of an HTTP server in a database. Servers that share the database share the sessions.
type Store struct {
	DB   backend.Database
	Idle time.Duration // that of the definition that consumers run
}

// Visit is a session in use, by one request.
type Visit struct {
	Session // as it was when the request came
	server  *dserver.DServer[Session]
}

const cookieName = "session"

// Begin begins a session for whoever made the request, and ends the one that they had.
func (s Store) Begin(w http.ResponseWriter, r *http.Request, values map[string]string) error {
	if err := s.End(w, r); err != nil {
		return err
	}
	token := rand.Text()
	if err := s.at(token).Call(r.Context(), Begin{values}, nil); err != nil {
		return err
	}
	http.SetCookie(w, cookie(token))
	return nil
}

// Get returns the session of a request, or ErrEnded. It is one read and stores nothing, whatever the cookie says; now
// and then it keeps the session from expiring.
func (s Store) Get(r *http.Request) (*Visit, error) {
	sent, err := r.Cookie(cookieName)
	if err != nil {
		return nil, ErrEnded
	}
	server := s.at(sent.Value)
	session, err := server.State(r.Context())
	switch {
	case errors.Is(err, dserver.ErrNotFound):
		return nil, ErrEnded
	case err != nil:
		return nil, err
	case !session.Lives():
		return nil, ErrEnded
	case session.IsStale(s.Idle):
		if err := server.Call(r.Context(), Touch{}, nil); err != nil {
			return nil, err
		}
	}
	return &Visit{session, server}, nil
}

// End ends the session of a request, if it has one, and removes all that is stored of it.
func (s Store) End(w http.ResponseWriter, r *http.Request) error {
	sent, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	gone := cookie("")
	gone.MaxAge = -1
	http.SetCookie(w, gone)
	return s.at(sent.Value).Kill(r.Context())
}

// at is the session of a cookie. The database knows the token's hash alone: who reads the one cannot use the other.
func (s Store) at(token string) *dserver.DServer[Session] {
	hash := sha256.Sum256([]byte(token))
	return Sessions.At(s.DB, base64.RawURLEncoding.EncodeToString(hash[:]))
}

// cookie is for this host alone, not for scripts, and not for forms of other sites. Behind TLS it is Secure as well.
func cookie(token string) *http.Cookie {
	return &http.Cookie{Name: cookieName, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// Set changes some values.
func (v *Visit) Set(ctx context.Context, values map[string]string) error {
	return v.server.Call(ctx, Set{values}, nil)
}

// Count adds to a count.
func (v *Visit) Count(ctx context.Context, what string, by int64) (int64, error) {
	return dserver.Call(ctx, v.server, Count{What: what, By: by})
}
