package console

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
)

//go:embed templates
var templateFiles embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"name":    display.Quoted,
	"message": func(name string) string { return display.Quoted(orNameless(name)) },
	"visible": display.Visible,
	"count":   count[int64],
	"number":  count[int],
	"size":    size,
	"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
	"when":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"in":      func(p page, data any) page { p.Data = data; return p },
}).ParseFS(templateFiles, "templates/*.html"))

// count is a number with its thousands apart.
func count[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteRune('\u2009') // a thin space
		}
		b.WriteRune(d)
	}
	return b.String()
}

// page is what templates are given.
type page struct {
	Root     string // the console's, as seen from the page
	Title    string
	Database string
	Section  string
	User     User
	Live     string // the address of the stream; "" when nothing of the page changes
	Sought   string // in the search box
	Notice   string // what was just done
	Content  template.HTML
	Data     any
}

// Asset is the address of a file, Server that of a server, and so on.
func (p page) Asset(name string) string      { return p.Root + "assets/" + assetNames[name] }
func (p page) Server(ref dserver.Ref) string { return p.Root + serverPath(ref) }
func (p page) Type(name string) string       { return p.Root + typePath(name) }
func (p page) To(path string) string         { return p.Root + path }
func (p page) Message(ref dserver.Ref, stamp backend.Versionstamp) string {
	return p.Root + messagePath(ref, stamp)
}

func (c *console) pageOf(r *http.Request, v *view, u User) page {
	p := page{Root: rootOf(r.URL.Path), Title: v.title, Database: c.options.Title, Section: v.section, User: u, Sought: r.URL.Query().Get("q")}
	if len(v.regions) > 0 {
		q := r.URL.Query()
		q.Del("done")
		q.Set("live", "")
		p.Live = "?" + q.Encode()
	}
	p.Notice = notices[r.URL.Query().Get("done")]
	return p
}

// fragment renders a template.
func fragment(name string, p page) (string, error) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, p); err != nil {
		return "", fmt.Errorf("dserver: render %s: %w", name, err)
	}
	return b.String(), nil
}

// render writes the page of a view.
func (c *console) render(w http.ResponseWriter, r *http.Request, v *view, u User, data any) {
	p := c.pageOf(r, v, u)
	p.Data = data
	writePage(w, v.name, v.status, p)
}

// writePage writes a page. A status of 0 is 200.
func writePage(w http.ResponseWriter, name string, status int, p page) {
	content, err := fragment(name, p)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	p.Content = template.HTML(content) //nolint:gosec // a template has made it
	whole, err := fragment("layout", p)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(whole)))
	if status != 0 {
		w.WriteHeader(status)
	}
	_, _ = w.Write([]byte(whole)) // the browser may have gone
}

// failure is what the page of an error shows.
type failure struct {
	Status int
	Head   string
	Text   string
}

// fail writes the page of an error.
func (c *console) fail(w http.ResponseWriter, r *http.Request, u User, err error) {
	status, text := statusOf(err)
	v := &view{name: "failure", title: http.StatusText(status), status: status}
	c.render(w, r, v, u, failure{status, http.StatusText(status), display.Visible(text)})
}
