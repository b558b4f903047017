package console

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"
)

// WithToken serves a console to those who know a token, for programs that have no login of their own: the address
// login?token=TOKEN, or the form that everybody else gets, exchanges it for a cookie, which the console's own pages alone send and
// no script reads. The token is a secret of at least 16 random bytes, and the cookie holds for as long as the token is the same. On
// a network that others can read, serve it by TLS: the token and the cookie travel with requests.
func WithToken(console http.Handler, token string) http.Handler {
	g := &gate{next: console, token: sha256.Sum256([]byte(token))}
	session, name := sha256.Sum256([]byte("session "+token)), sha256.Sum256([]byte("name "+token))
	g.session = hex.EncodeToString(session[:])
	g.cookie = "dserver_console_" + hex.EncodeToString(name[:4]) // consoles on other ports of a host have other cookies
	return secured(g, nil)
}

// gate is before a console.
type gate struct {
	next            http.Handler
	token           [sha256.Size]byte // its hash
	session, cookie string
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/login":
		g.login(w, r)
	case g.knows(r) || r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/assets/") || r.URL.Path == "":
		g.next.ServeHTTP(w, r)
	default:
		g.ask(w, r, http.StatusUnauthorized, "")
	}
}

func (g *gate) knows(r *http.Request) bool {
	c, err := r.Cookie(g.cookie)
	return err == nil && subtle.ConstantTimeCompare([]byte(c.Value), []byte(g.session)) == 1
}

func (g *gate) login(w http.ResponseWriter, r *http.Request) {
	given := r.URL.Query().Get("token")
	if r.Method == http.MethodPost {
		given = r.PostFormValue("token")
	}
	if given == "" {
		g.ask(w, r, http.StatusOK, "")
		return
	}
	if hash := sha256.Sum256([]byte(strings.TrimSpace(given))); subtle.ConstantTimeCompare(hash[:], g.token[:]) != 1 {
		g.ask(w, r, http.StatusForbidden, "This is not the token.")
		return
	}
	http.SetCookie(w, &http.Cookie{ // without a Path it is for what is below the console's root, wherever that is
		Name: g.cookie, Value: g.session, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
	redirect(w, "./")
}

// ask serves the form.
func (g *gate) ask(w http.ResponseWriter, r *http.Request, status int, wrong string) {
	p := page{Root: rootOf(r.URL.Path), Title: "Log in", Data: wrong}
	writePage(w, "login", status, p)
}
