package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/examples/internal/child"
	"github.com/dserver-go/dserver/internal/dbtest"
)

func TestMain(m *testing.M) {
	child.Main(m, map[string]child.Role{"server": run})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// longest is how long a test waits for what must come.
const longest = 2 * time.Minute

// tab is a browser's tab that shows the page.
type tab struct {
	t      testing.TB
	url    string
	events *bufio.Scanner
	last   int64
}

// show opens the stream of the page. It is closed when the test ends.
func show(t testing.TB, url string) *tab {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/events", nil)
	must(t, err)
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	t.Cleanup(func() { response.Body.Close() })
	if kind := response.Header.Get("Content-Type"); kind != "text/event-stream" || response.StatusCode != http.StatusOK {
		t.Fatalf("the stream is %s, %s", response.Status, kind)
	}
	return &tab{t, url, bufio.NewScanner(response.Body), -1}
}

// next is the count that the tab shows next, which is another one; false when the stream has ended.
func (b *tab) next() (int64, bool) {
	b.t.Helper()
	for b.events.Scan() {
		text, isData := strings.CutPrefix(b.events.Text(), "data: ")
		if !isData {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n <= b.last {
			b.t.Fatalf("after %d the tab shows %q, %v", b.last, text, err)
		}
		b.last = n
		return n, true
	}
	return b.last, false
}

// expect waits until the tab shows a count.
func (b *tab) expect(want int64) {
	b.t.Helper()
	for b.last != want {
		if n, ok := b.next(); !ok || n > want {
			b.t.Fatalf("the tab shows %d, not %d; %v", n, want, b.events.Err())
		}
	}
}

func (b *tab) click() error {
	response, err := http.Post(b.url+"/click", "", nil)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		return errors.New(response.Status)
	}
	return nil
}

// start runs a site on a database until the test ends.
func start(t testing.TB, database string) (url string) {
	t.Helper()
	db, err := open.Database(database)
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- dserver.Run(ctx, db, Counters) }()
	server := httptest.NewServer(site(ctx, db))
	t.Cleanup(func() {
		stop()
		server.Close()
		must(t, errors.Join(<-ended, db.Close()))
	})
	return server.URL
}

func TestEveryTabShowsEachClick(t *testing.T) {
	database := dbtest.Name(t)
	var tabs []*tab
	for range 2 {
		url := start(t, database)
		for range 3 {
			tabs = append(tabs, show(t, url))
		}
	}
	for _, b := range tabs {
		b.expect(0)
	}
	for i, clicked := range tabs {
		must(t, clicked.click())
		for _, b := range tabs {
			b.expect(int64(i) + 1)
		}
	}
	late := show(t, tabs[0].url)
	late.expect(int64(len(tabs)))
}

// Tabs of two servers click at the same time. What a tab shows grows, and ends at what was clicked.
func TestTabsThatClickAtOnceShowTheSameAtTheEnd(t *testing.T) {
	database := dbtest.Name(t)
	var tabs []*tab
	for range 2 {
		url := start(t, database)
		tabs = append(tabs, show(t, url), show(t, url))
	}
	const each = 100
	var all sync.WaitGroup
	for _, b := range tabs {
		all.Go(func() {
			for range each {
				if err := b.click(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, b := range tabs {
		b.expect(each * int64(len(tabs)))
	}
	all.Wait()
}

// A server is killed. The tab connects to it again when it is back, and shows what was clicked elsewhere meanwhile. A server
// that ends in order ends its streams.
func TestAServerIsKilledAndOthersGoOn(t *testing.T) {
	database := dbtest.Name(t)
	begin := func() (*child.Process, string) {
		server := child.Start(t, "server", "-db", database, "-addr", "127.0.0.1:0")
		return server, strings.TrimPrefix(server.Expect(), "serving ")
	}
	killed, url := begin()
	other, otherURL := begin()
	shown, elsewhere := show(t, url), show(t, otherURL)
	must(t, shown.click())
	shown.expect(1)
	elsewhere.expect(1)
	killed.Kill()
	if n, ok := shown.next(); ok {
		t.Fatalf("a server that was killed shows %d", n)
	}
	must(t, elsewhere.click())
	elsewhere.expect(2)
	again, url := begin()
	shown = show(t, url)
	shown.expect(2)
	must(t, shown.click())
	elsewhere.expect(3)
	for _, server := range []*child.Process{other, again} {
		server.Finish()
	}
	for name, b := range map[string]*tab{"other": elsewhere, "again": shown} {
		if _, ok := b.next(); ok && b.last != 3 {
			t.Errorf("%s: a stream shows %d at its end", name, b.last)
		}
	}
}

func TestThePageFollowsItsStream(t *testing.T) {
	url := start(t, dbtest.Name(t))
	response, err := http.Get(url)
	must(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	for _, part := range []string{`EventSource("/events")`, `fetch("/click", { method: "POST" })`} {
		if !strings.Contains(string(text), part) {
			t.Errorf("%s: the page has no %s", response.Status, part)
		}
	}
}
