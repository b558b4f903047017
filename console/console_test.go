package console_test

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/console"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
	"github.com/dserver-go/dserver/internal/display"
)

// The program whose servers are looked at.
type (
	item struct {
		SKU    string `dserver:"id"`
		Number int
	}
	order struct {
		Customer string
		Total    int64
		Items    []item
		Notes    map[string]string
		Opened   time.Time
		Photo    []byte
	}
	add    struct{ SKU string }
	charge struct{ Amount int64 }
	coupon struct{ Code string }
	ship   struct{ To string }
	remind struct{ Text string }
	note   struct{ Text string }
)

// docks are where ships wait until their test has ended.
var docks sync.Map // of channels, by the name of their test

func (s ship) wait(ctx context.Context) error {
	dock, isOpen := docks.Load(s.To)
	if !isOpen {
		return errors.New("the test has ended")
	}
	select {
	case <-ctx.Done():
	case <-dock.(chan struct{}):
	}
	return errors.New("it was not shipped")
}

// dock is where the ships of a test wait.
func dock(t testing.TB) ship {
	gate := make(chan struct{})
	docks.Store(t.Name(), gate)
	t.Cleanup(func() {
		docks.Delete(t.Name())
		close(gate)
	})
	return ship{t.Name()}
}

var errTooMuch = &dserver.Error{Code: "too-much", Text: "the card is not good for that"}

// opened is a moment of the tests.
var opened = time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)

func addItem(ctx *dserver.Context, o *order, m add) error {
	if o.Customer == "" {
		*o = order{Customer: "Ada", Opened: opened, Photo: []byte{1, 2, 3}, Notes: map[string]string{"gift": "yes"}}
		ctx.SetTimer("remind", 24*time.Hour, remind{"pay"})
	}
	o.Items = append(o.Items, item{m.SKU, 1})
	o.Total += 250
	return nil
}

var (
	orders = dserver.Define("order", dserver.Settings[order]{MaxAttempts: 1000, BackOff: time.Hour, MaxBackOff: time.Hour},
		dserver.HandleCast(addItem),
		dserver.HandleCast(func(*dserver.Context, *order, charge) error { return errTooMuch }),
		dserver.HandleCast(func(_ *dserver.Context, o *order, m note) error {
			o.Notes = map[string]string{"text": m.Text}
			return nil
		}),
		dserver.HandleCast(func(_ *dserver.Context, _ *order, m coupon) error { panic("no such coupon: " + m.Code) }),
		dserver.HandleCast(func(*dserver.Context, *order, remind) error { return nil }),
		dserver.HandleLocked(
			func(ctx *dserver.LockedContext, _ order, m ship) (int, error) { return 0, m.wait(ctx) },
			func(*dserver.Context, *order, ship, int) error { return nil },
		),
	)
	invoices = dserver.Define("invoice", dserver.Settings[order]{MaxAttempts: 1, Halt: true},
		dserver.HandleCast(addItem),
		dserver.HandleCast(func(_ *dserver.Context, _ *order, m coupon) error { panic("no such coupon: " + m.Code) }),
	)
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// longest is how long a test waits for what must come.
const longest = time.Minute

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(longest); !is(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it did not come true: %s", what)
		}
	}
}

// operator may act.
var operator = console.User{Name: "ada@ops", Act: true}

// as lets everybody be a user.
func as(u console.User) func(*http.Request) (console.User, error) {
	return func(*http.Request) (console.User, error) { return u, nil }
}

// site is a program with servers of all kinds, and a console that is mounted below a prefix.
type site struct {
	t      testing.TB
	db     backend.Database
	server *httptest.Server
	root   string // ends with a slash
}

const prefix = "/ops/console"

func serve(t testing.TB, db backend.Database, o console.Options) *site {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	if o.Context == nil {
		o.Context = ctx
	}
	mux := http.NewServeMux()
	mux.Handle(prefix+"/", http.StripPrefix(prefix, console.Handler(db, o)))
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		cancel()
		server.Close()
	})
	return &site{t, db, server, server.URL + prefix + "/"}
}

// program starts the servers.
func program(t testing.TB) backend.Database {
	t.Helper()
	return dservertest.Start(t, orders, invoices)
}

// troubles makes one of each, and waits until they are there.
func troubles(t testing.TB, db backend.Database) {
	t.Helper()
	ctx := t.Context()
	must(t, orders.At(db, "4711").Call(ctx, add{"tea"}, nil))
	must(t, orders.At(db, "4711").Cast(ctx, charge{200}, dserver.Header("tenant", "acme"),
		dserver.Header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")))
	must(t, orders.At(db, "4712").Cast(ctx, coupon{"SPRING"}))
	must(t, orders.At(db, "4712").Cast(ctx, add{"cup"}))
	must(t, invoices.At(db, "2026-1").Cast(ctx, coupon{"<b>x</b>"}))
	must(t, orders.At(db, "4713").Pause(dserver.WithActor(ctx, "grace@ops")))
	must(t, orders.At(db, "4713").Cast(ctx, add{"pot"}))
	must(t, orders.At(db, "4714").Cast(ctx, dock(t)))
	must(t, orders.At(db, "4715").Cast(ctx, add{"jar"}, dserver.After(time.Hour)))
	for _, c := range []struct {
		id string
		is func(dserver.Status) bool
	}{
		{"order/4711", func(s dserver.Status) bool { return s.DeadLetters == 1 && s.Queued == 0 }},
		{"order/4712", func(s dserver.Status) bool { return len(s.Failing) == 1 && s.Queued == 2 }},
		{"invoice/2026-1", func(s dserver.Status) bool { return s.Halted }},
		{"order/4714", func(s dserver.Status) bool { return s.Locked }},
	} {
		eventually(t, c.id+" is in trouble", func() bool { return c.is(statusOf(t, db, c.id)) })
	}
}

func refOf(t testing.TB, name string) dserver.Ref {
	t.Helper()
	ref, err := dserver.ParseRef(name)
	must(t, err)
	return ref
}

func statusOf(t testing.TB, db backend.Database, name string) dserver.Status {
	t.Helper()
	status, err := refOf(t, name).At(db).Status(context.WithoutCancel(t.Context()))
	must(t, err)
	return status
}

// answer is what a browser gets.
type answer struct {
	t      testing.TB
	url    string
	status int
	header http.Header
	body   string
}

// ask sends a request. Redirections are not followed.
func (s *site) ask(method, path string, form url.Values, header http.Header) answer {
	s.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	at := path
	if !strings.Contains(path, "://") {
		at = s.root + path
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, at, body)
	must(s.t, err)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, values := range header {
		r.Header[name] = values
	}
	if host := header.Get("Host"); host != "" {
		r.Host = host
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Transport: s.server.Client().Transport}
	response, err := client.Do(r)
	must(s.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(s.t, err)
	return answer{s.t, at, response.StatusCode, response.Header, string(text)}
}

// get asks for a page that is there.
func (s *site) get(path string) answer {
	s.t.Helper()
	a := s.ask(http.MethodGet, path, nil, nil)
	if a.status != http.StatusOK {
		s.t.Fatalf("%s is %d: %s", path, a.status, a.text())
	}
	return a
}

// text is what a person reads of a page.
func (a answer) text() string {
	_, main, _ := strings.Cut(a.body, "<main")
	text := html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString("<main"+main, " "))
	return strings.Join(strings.Fields(text), " ")
}

// shows expects what a person should read.
func (a answer) shows(what ...string) answer {
	a.t.Helper()
	for _, w := range what {
		if !strings.Contains(a.text(), w) {
			a.t.Errorf("%s does not show %q, but %s", a.url, w, a.text())
		}
	}
	return a
}

func (a answer) hides(what ...string) answer {
	a.t.Helper()
	for _, w := range what {
		if strings.Contains(a.body, w) {
			a.t.Errorf("%s has %q: %s", a.url, w, a.body)
		}
	}
	return a
}

// links are the addresses that a page leads to, whole.
func (a answer) links() (all []string) {
	a.t.Helper()
	base, err := url.Parse(a.url)
	must(a.t, err)
	for _, m := range regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(a.body, -1) {
		to, err := base.Parse(html.UnescapeString(m[1]))
		must(a.t, err)
		if to.Fragment = ""; !slices.Contains(all, to.String()) {
			all = append(all, to.String())
		}
	}
	return all
}

func letterOf(t testing.TB, db backend.Database, name string) dserver.DeadLetter {
	t.Helper()
	for d, err := range refOf(t, name).At(db).DeadLetters(t.Context()) {
		must(t, err)
		return d
	}
	t.Fatalf("%s has no dead letter", name)
	return dserver.DeadLetter{}
}

func nextOf(t testing.TB, db backend.Database, name string) dserver.Queued {
	t.Helper()
	for q, err := range refOf(t, name).At(db).Queue(t.Context()) {
		must(t, err)
		return q
	}
	t.Fatalf("nothing waits for %s", name)
	return dserver.Queued{}
}

func TestEachPageShowsWhatThereIs(t *testing.T) {
	t.Parallel()
	db := program(t)
	s := serve(t, db, console.Options{Title: "shop", Authorize: as(operator), TraceURL: "https://traces.example.org/{trace}"})
	s.get("").shows("There are no servers yet", "Nothing needs you.")
	s.get("trouble").shows("Nothing needs you.")
	s.get("audit").shows("Nothing was done.")
	s.get("type/order").shows("There are no servers of this type.")
	s.ask(http.MethodGet, "nowhere", nil, nil).shows("There is no such page.")
	troubles(t, db)
	s = serve(t, db, console.Options{Title: "shop", Authorize: as(operator), TraceURL: "https://traces.example.org/{trace}"}) // else it shows what was a second ago
	letter, fails := letterOf(t, db, "order/4711"), nextOf(t, db, "order/4712")
	for path, shows := range map[string][]string{
		"": {"Waiting", "Dead letters", "halted invoice/2026-1 It has halted after 1 attempt", "failing order/4712 coupon fails", "order", "invoice", "alive"},
		"trouble": {"halted invoice/2026-1", `panic: no such coupon: <b>x</b>`, "Edit it in its place, or delete it",
			"dead letters order/4711 It has 1 dead letter.", "paused order/4713 It was paused by grace@ops"},
		"consumers":                          {"alive", "invoice , order"},
		"audit":                              {"grace@ops Pause order/4713"},
		"audit?by=nobody":                    {"Nothing was done that is so."},
		"audit?server=order/4713":            {"Pause"},
		"search?q=47":                        {"4711", "4715"},
		"search?q=order/4711":                {"4711"},
		"search?q=ord":                       {"The type order"},
		"search?q=nothing":                   {"No server of any type"},
		"search?q=":                          {"Write the beginning of an id"},
		"type/order":                         {"4711 idle 0 0 1", "4712 failing, attempts: 1 2", "4713 paused by grace@ops", "4714 locked", "4715 waits, delayed: 1"},
		"type/order?prefix=4713":             {"4713"},
		"type/order?only=trouble":            {"4711", "4712", "4713"},
		"type/order?only=active&sort=queued": {"4712", "4714"},
		"server/order/4711": {"It has 1 dead letter.", "Customer \"Ada\"", "Items 1 item", "SKU \"tea\"", "Total 250",
			"Photo \"AQID\", 3 bytes", "Opened \"2026-03-01T12:00:00.000000005Z\"", "charge 1", "too-much the card is not good for that", `{"Amount":200}`,
			"Timers remind sends remind", `{"Text":"pay"}`},
		"server/order/4712":     {"coupon fails, and is tried again", "1 of 1 000", "coupon fails", `{"Code":"SPRING"}`, `{"SKU":"cup"}`},
		"server/order/4713":     {"paused by grace@ops", "Pause by grace@ops"},
		"server/order/4714":     {"locked", "Locked for ship", "Holder"},
		"server/order/4715":     {"Delayed add due"},
		"server/order/none":     {"There is nothing of this server"},
		"server/invoice/2026-1": {"It has halted", "panic: no such coupon: <b>x</b>"},
		"server/order/4711/message/" + letter.Stamp.String(): {"charge dead letter", "Why it failed too-much", `{ "Amount": 200 }`, `CBOR diagnostic notation { "Amount": 200 }`, "tenant acme",
			"4bf92f3577b34da6a3ce929d0e0e4736"},
		"server/order/4712/message/" + fails.Stamp.String():                              {"coupon fails, and is tried again", "panic: no such coupon: SPRING", "Stack", "cast"},
		"server/order/4714/message/" + statusOf(t, db, "order/4714").Lock.Stamp.String(): {"ship locked work"},
		"server/order/4712/message/ffffffffffffffffffffffff":                             {"It was handled, deleted or discarded"},
	} {
		s.get(path).shows(shows...)
	}
	if page := s.get("server/order/4711/message/" + letter.Stamp.String()); !slices.Contains(page.links(), "https://traces.example.org/4bf92f3577b34da6a3ce929d0e0e4736") {
		t.Errorf("the trace is no link: %q", page.links())
	}
}

// Wherever it is mounted, each link of each page leads to a page.
func TestAllLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	db := program(t)
	troubles(t, db)
	for _, id := range hostile {
		must(t, orders.At(db, id).Cast(t.Context(), add{id}))
	}
	s := serve(t, db, console.Options{Authorize: as(operator)})
	seen := map[string]bool{}
	queue := []string{s.root, s.root + "server/order/none"}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		if seen[at] || !strings.HasPrefix(at, s.server.URL) {
			continue
		}
		seen[at] = true
		if !strings.HasPrefix(at, s.root) {
			t.Errorf("a link leaves the console: %s", at)
			continue
		}
		a := s.ask(http.MethodGet, at, nil, nil)
		if a.status != http.StatusOK {
			t.Errorf("%s is %d", at, a.status)
		}
		if strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			queue = append(queue, a.links()...)
		}
	}
	if len(seen) < 40 {
		t.Errorf("only %d pages were found", len(seen))
	}
	for _, path := range []string{prefix, prefix + "?x=1"} {
		if a := s.ask(http.MethodGet, s.server.URL+path, nil, nil); a.status/100 != 3 || !strings.HasSuffix(a.header.Get("Location"), "console/") && a.header.Get("Location") != prefix+"/?x=1" {
			t.Errorf("%s is %d, %q", path, a.status, a.header.Get("Location"))
		}
	}
}

var (
	errNobody = errors.New("log in first")
	errFire   = errors.New("the disk is on fire")
)

func TestWhoMayLookAndWhoMayAct(t *testing.T) {
	t.Parallel()
	db := program(t)
	troubles(t, db)
	const acts = `aria-label="Acts"`
	for name, c := range map[string]struct {
		options console.Options
		status  int
		acts    bool
	}{
		"no callback":  {console.Options{}, http.StatusOK, false},
		"may act":      {console.Options{Authorize: as(operator)}, http.StatusOK, true},
		"may look":     {console.Options{Authorize: as(console.User{Name: "eve"})}, http.StatusOK, false},
		"read only":    {console.Options{Authorize: as(operator), ReadOnly: true}, http.StatusOK, false},
		"may not look": {console.Options{Authorize: func(*http.Request) (console.User, error) { return operator, errNobody }}, http.StatusForbidden, false},
	} {
		s := serve(t, db, c.options)
		for _, path := range []string{"server/order/4711", "server/order/4711?live="} {
			if c.status == http.StatusOK && strings.Contains(path, "live") {
				continue // it has no end
			}
			a := s.ask(http.MethodGet, path, nil, nil)
			if a.status != c.status || strings.Contains(a.body, acts) != c.acts || strings.Contains(a.body, "Ada") != (c.status == http.StatusOK) {
				t.Errorf("%s: %s is %d, %s", name, path, a.status, a.text())
			}
		}
	}
}

func TestHeadersOfEachAnswer(t *testing.T) {
	t.Parallel()
	db := program(t)
	troubles(t, db)
	s := serve(t, db, console.Options{Authorize: as(operator)})
	paths := []string{"", "nowhere", "server/order/4711", "server/~/x", "type/order", "server/order/4711/state", "server/order/4711/do/kill"}
	for _, link := range s.get("").links() {
		if strings.Contains(link, "/assets/") {
			paths = append(paths, link)
		}
	}
	if len(paths) != 10 {
		t.Errorf("there are %q", paths)
	}
	for _, path := range paths {
		a := s.ask(http.MethodGet, path, nil, nil)
		policy := a.header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: the policy lacks %s: %s", path, part, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s has %v", path, a.header)
		}
		isAsset := strings.Contains(path, "/assets/")
		if cache := a.header.Get("Cache-Control"); isAsset && !strings.Contains(cache, "immutable") || !isAsset && cache != "no-store" {
			t.Errorf("%s: Cache-Control is %q", path, cache)
		}
		if !isAsset {
			a.hides("<style", " style=", "onclick", "javascript:", "<script>")
			continue
		}
		again := s.ask(http.MethodGet, path, nil, http.Header{"If-None-Match": {a.header.Get("ETag")}})
		if again.status != http.StatusNotModified {
			t.Errorf("%s is sent again: %d", path, again.status)
		}
	}
	if a := s.ask(http.MethodGet, "assets/console.css", nil, nil); a.status != http.StatusNotFound {
		t.Errorf("an asset without its hash is %d", a.status)
	}
}

func TestOnlyHostsThatAreListedAreServed(t *testing.T) {
	t.Parallel()
	s := serve(t, program(t), console.Options{Hosts: []string{"localhost:7070"}})
	for host, want := range map[string]int{"localhost:7070": 200, "LOCALHOST:7070": 200, "localhost": 421, "evil.example.org:7070": 421, "evil.example.org": 421} {
		if a := s.ask(http.MethodGet, "", nil, http.Header{"Host": {host}}); a.status != want {
			t.Errorf("for %s it is %d", host, a.status)
		}
	}
}

func TestPagesOfAListReachEachServerOnce(t *testing.T) {
	t.Parallel()
	db := program(t)
	var want []string
	for i := range 120 {
		id := fmt.Sprintf("a%03d", i)
		want = append(want, id)
		must(t, orders.At(db, id).Cast(t.Context(), add{"x"}))
	}
	must(t, orders.At(db, "b").Cast(t.Context(), add{"x"}))
	s := serve(t, db, console.Options{})
	var got []string
	pages := 0
	for at := s.root + "type/order?prefix=a"; at != "" && pages < 5; pages++ {
		page := s.get(at)
		for _, m := range regexp.MustCompile(`<code>(a\d\d\d)</code></a></th>`).FindAllStringSubmatch(page.body, -1) {
			got = append(got, m[1])
		}
		at = ""
		for _, link := range page.links() {
			if strings.Contains(link, "after=") && link != page.url {
				at = link
			}
		}
	}
	if !slices.Equal(got, want) || pages != 3 {
		t.Errorf("%d pages have %q", pages, got)
	}
}

func TestATokenIsExchangedForACookie(t *testing.T) {
	t.Parallel()
	db := program(t)
	mux := http.NewServeMux()
	mux.Handle(prefix+"/", http.StripPrefix(prefix, console.WithToken(console.Handler(db, console.Options{}), "a secret of the test")))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s := &site{t, db, server, server.URL + prefix + "/"}
	for _, path := range []string{"", "trouble", "server/order/1", "server/order/1?live="} {
		a := s.ask(http.MethodGet, path, nil, nil)
		if a.status != http.StatusUnauthorized || a.header.Get("Content-Security-Policy") == "" {
			t.Errorf("without a token %s is %d", path, a.status)
		}
		a.shows("Log in").hides("Overview")
		for _, link := range a.links() {
			if strings.Contains(link, "/assets/") && s.ask(http.MethodGet, link, nil, nil).status != http.StatusOK {
				t.Errorf("the page lacks %s", link)
			}
		}
	}
	if a := s.ask(http.MethodGet, "login?token=another", nil, nil); a.status != http.StatusForbidden || a.header.Get("Set-Cookie") != "" {
		t.Errorf("another token is %d, %v", a.status, a.header)
	}
	if a := s.ask(http.MethodGet, "trouble", nil, http.Header{"Cookie": {"dserver_console_00000000=x"}}); a.status != http.StatusUnauthorized {
		t.Errorf("another cookie is %d", a.status)
	}
	for _, a := range []answer{
		s.ask(http.MethodGet, "login?token="+url.QueryEscape("a secret of the test"), nil, nil),
		s.ask(http.MethodPost, "login", url.Values{"token": {"a secret of the test"}}, nil),
	} {
		cookie := a.header.Get("Set-Cookie")
		if a.status != http.StatusSeeOther || a.header.Get("Location") != "./" || !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Strict") ||
			strings.Contains(cookie, "secret") || strings.Contains(cookie, "Path") {
			t.Errorf("the token is %d, %v", a.status, a.header)
		}
		pair, _, _ := strings.Cut(cookie, ";")
		if a := s.ask(http.MethodGet, "trouble", nil, http.Header{"Cookie": {pair}}); a.status != http.StatusOK {
			t.Errorf("with its cookie a page is %d", a.status)
		}
	}
}

// A server needs a person here when it does for the library, and for no other reason.
func TestTroubleIsWhatTheLibraryCallsSo(t *testing.T) {
	t.Parallel()
	db := program(t)
	troubles(t, db)
	must(t, orders.At(db, "4716").Pin(t.Context(), "nobody"))
	must(t, orders.At(db, "4716").Cast(t.Context(), add{"x"}))
	must(t, orders.Ref("4717").At(db).Cast(t.Context(), dserver.Message{Name: "unheard", Body: []byte("\xa0")}))
	in := map[dserver.Ref]bool{}
	for found, err := range dserver.Troubles(t.Context(), db) {
		must(t, err)
		in[found.Ref] = true
	}
	looked := 0
	for found, err := range dserver.Active(t.Context(), db) {
		must(t, err)
		looked++
		if is := len(display.Troubles(found.Status)) > 0; is != in[found.Ref] {
			t.Errorf("%v: trouble %v, and for the library %v: %+v", found.Ref, is, in[found.Ref], found.Status)
		}
	}
	if len(in) < 6 || looked <= len(in) {
		t.Errorf("%d are in trouble, of %d", len(in), looked)
	}
}
