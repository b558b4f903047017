package main

import (
	"errors"
	"html/template"
	"net/http"
)

// site is a page with a name, a button that counts, and a note.
func site(store Store) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		visit, err := store.Get(r)
		if err != nil && !errors.Is(err, ErrEnded) {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_ = page.Execute(w, visit) // the browser may have gone
	})
	mux.HandleFunc("POST /sign-in", redirecting(func(w http.ResponseWriter, r *http.Request) error {
		return store.Begin(w, r, map[string]string{"name": r.PostFormValue("name")})
	}))
	mux.HandleFunc("POST /click", redirecting(func(_ http.ResponseWriter, r *http.Request) error {
		visit, err := store.Get(r)
		if err == nil {
			_, err = visit.Count(r.Context(), "clicks", 1)
		}
		return err
	}))
	mux.HandleFunc("POST /note", redirecting(func(_ http.ResponseWriter, r *http.Request) error {
		visit, err := store.Get(r)
		if err == nil {
			err = visit.Set(r.Context(), map[string]string{"note " + r.PostFormValue("about"): r.PostFormValue("text")})
		}
		return err
	}))
	mux.HandleFunc("POST /sign-out", redirecting(store.End))
	return mux
}

// redirecting is a handler of a form, after which the browser shows the page again. One whose session has ended sees
// that it has to sign in.
func redirecting(do func(w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := do(w, r); err != nil && !errors.Is(err, ErrEnded) {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

// maxForm is how large a form may be, in bytes.
const maxForm = 64 << 10

var page = template.Must(template.New("page").Parse(`<!doctype html>
<title>Sessions</title>
{{with .}}
<p>{{.Values.name}}, {{.Counts.clicks}} clicks</p>
<form method="post" action="/click"><button>Click</button></form>
<form method="post" action="/note"><input name="about"> <input name="text"> <button>Note</button></form>
<ul>{{range $key, $value := .Values}}<li>{{$key}}: {{$value}}</li>{{end}}</ul>
<form method="post" action="/sign-out"><button>Sign out</button></form>
{{else}}
<form method="post" action="/sign-in"><input name="name"> <button>Sign in</button></form>
{{end}}
`))
