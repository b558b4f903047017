package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
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

// browser asks a server. Its tabs share its cookie.
type browser struct {
	t      testing.TB
	client *http.Client
	url    string
}

func newBrowser(t testing.TB, url string) *browser {
	jar, err := cookiejar.New(nil)
	must(t, err)
	return &browser{t, &http.Client{Jar: jar, Timeout: time.Minute}, url}
}

// inside is a browser of a site that it asks without a network.
func inside(t testing.TB, site http.Handler) *browser {
	b := newBrowser(t, "http://site.example")
	b.client.Transport = direct{site}
	return b
}

type direct struct{ site http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	d.site.ServeHTTP(answer, r)
	return answer.Result(), r.Context().Err()
}

// post sends a form, and returns the page that is shown then.
func (b *browser) post(path string, values ...string) (string, error) {
	form := url.Values{}
	for i := 0; i < len(values); i += 2 {
		form.Set(values[i], values[i+1])
	}
	return pageOf(b.client.PostForm(b.url+path, form))
}

func pageOf(response *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	return string(text), err
}

func (b *browser) mustPost(path string, values ...string) string {
	b.t.Helper()
	page, err := b.post(path, values...)
	must(b.t, err)
	return page
}

// see returns the page as it is.
func (b *browser) see() string {
	b.t.Helper()
	page, err := pageOf(b.client.Get(b.url + "/"))
	must(b.t, err)
	return page
}

// setCookie makes the browser send this token.
func (b *browser) setCookie(token string) {
	b.t.Helper()
	at, err := url.Parse(b.url)
	must(b.t, err)
	b.client.Jar.SetCookies(at, []*http.Cookie{cookie(token)})
}

// clicks is the number on the page, or -1 when it asks to sign in.
func clicks(page string) int {
	found := regexp.MustCompile(`<p>ada, (\d*) clicks</p>`).FindStringSubmatch(page)
	if found == nil {
		return -1
	}
	n, _ := strconv.Atoi("0" + found[1])
	return n
}

func expectClicks(t testing.TB, page string, want int) {
	t.Helper()
	if got := clicks(page); got != want {
		t.Fatalf("%d clicks, not %d, on the page %s", got, want, page)
	}
}

const signedOut = -1

// stored is the rows that are left of sessions; those of servers, or with all also the index of what is due.
func stored(t testing.TB, db backend.Database, all bool) (rows []string) {
	t.Helper()
	dump, err := backendtest.Dump(context.Background(), db)
	must(t, err)
	for line := range strings.Lines(dump) {
		if strings.HasPrefix(line, `("s", "session"`) || all && strings.HasPrefix(line, `("t", `) && strings.Contains(line, `, "session", `) {
			rows = append(rows, line)
		}
	}
	return rows
}

// A real server, killed while tabs click: whoever was signed in is signed in, and each click that was answered counts.
func TestKillTheServerAndTheSessionGoesOn(t *testing.T) {
	moments := child.Random(t)
	database := dbtest.Name(t)
	start := func() (*child.Process, string) {
		server := child.Start(t, "server", "-db", database, "-addr", "127.0.0.1:0")
		return server, strings.TrimPrefix(server.Expect(), "serving ")
	}
	server, url := start()
	ada := newBrowser(t, url)
	expectClicks(t, ada.mustPost("/sign-in", "name", "ada"), 0)
	var tried, answered atomic.Int64
	for range child.Kills(t, 3) {
		var tabs sync.WaitGroup
		first := make(chan struct{})
		begun := sync.OnceFunc(func() { close(first) })
		for range 3 {
			tabs.Go(func() {
				for {
					tried.Add(1)
					if _, err := ada.post("/click"); err != nil {
						return // it is dead
					}
					answered.Add(1)
					begun()
				}
			})
		}
		<-first
		<-time.After(time.Duration(moments.Int64N(int64(100 * time.Millisecond))))
		server.Kill()
		tabs.Wait()
		server, ada.url = start()
		if n := int64(clicks(ada.see())); n < answered.Load() || n > tried.Load() {
			t.Fatalf("%d clicks count, %d were answered, %d tried", n, answered.Load(), tried.Load())
		}
	}
	t.Logf("%d clicks were answered", answered.Load())
	server.Finish()
}

// The server is stopped and started while a tab clicks: it finishes what it has in hand, and no click is refused.
func TestAServerThatEndsAnswersWhatItHasInHand(t *testing.T) {
	database := dbtest.Name(t)
	server := child.Start(t, "server", "-db", database, "-addr", "127.0.0.1:0")
	ada := newBrowser(t, strings.TrimPrefix(server.Expect(), "serving "))
	ada.mustPost("/sign-in", "name", "ada")
	ada.mustPost("/click")
	server.Finish()
	again := child.Start(t, "server", "-db", database, "-addr", "127.0.0.1:0")
	ada.url = strings.TrimPrefix(again.Expect(), "serving ")
	expectClicks(t, ada.mustPost("/click"), 2)
	again.Finish()
}

// Two tabs, at two servers that share a database: both click and write notes, and neither undoes what the other did.
func TestTwoTabsLoseNothing(t *testing.T) {
	database := dbtest.Name(t)
	var tabs [2]*browser
	for i := range tabs {
		db, err := open.Database(database)
		must(t, err)
		t.Cleanup(func() { must(t, db.Close()) })
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- dserver.Run(ctx, db, Expiring(time.Hour)) }()
		t.Cleanup(func() { stop(); must(t, <-ended) })
		server := httptest.NewServer(site(Store{db, time.Hour}))
		t.Cleanup(server.Close)
		tabs[i] = newBrowser(t, server.URL)
	}
	tabs[1].client.Jar = tabs[0].client.Jar // 127.0.0.1 has one cookie for all ports
	tabs[0].mustPost("/sign-in", "name", "ada")
	const each = 30
	var both sync.WaitGroup
	for i, tab := range tabs {
		both.Go(func() {
			for n := range each {
				about := fmt.Sprintf("tab %d, line %d", i, n)
				for _, post := range [][]string{{"/click"}, {"/note", "about", about, "text", "kept"}} {
					if _, err := tab.post(post[0], post[1:]...); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	both.Wait()
	page := tabs[1].see()
	expectClicks(t, page, len(tabs)*each)
	if n := strings.Count(page, ": kept"); n != len(tabs)*each {
		t.Errorf("%d notes were kept of %d", n, len(tabs)*each)
	}
}

// In each order of what two tabs do all of it is there, as long as the session is: in some of them it expires meanwhile.
func TestEachOrderOfTwoTabs(t *testing.T) {
	var kept, expired atomic.Int64
	dservertest.EachOrder(t, func(t *testing.T, o *dservertest.Order) {
		session := Sessions.At(o.Start(Expiring(time.Hour)), "s")
		must(t, session.Cast(t.Context(), Begin{map[string]string{"name": "ada"}}))
		o.Drain()
		var done atomic.Int64
		for _, tab := range []string{"left", "right"} {
			o.Go(tab, func(ctx context.Context) error {
				err := session.Call(ctx, Set{map[string]string{tab: "kept"}}, nil)
				if err == nil && done.Add(1) == 2 {
					var s Session
					s, err = session.State(ctx)
					if got := fmt.Sprint(s.Values); err == nil && got == "map[left:kept name:ada right:kept]" {
						kept.Add(1)
					} else if err == nil {
						err = fmt.Errorf("the session has %s", got)
					}
				}
				if errors.Is(err, ErrEnded) || errors.Is(err, dserver.ErrNotFound) {
					expired.Add(1)
					return nil
				}
				return err
			})
		}
		o.Run()
	})
	if kept.Load() == 0 || expired.Load() == 0 {
		t.Errorf("all was kept in %d orders, and %d times it was expired", kept.Load(), expired.Load())
	}
}

// A session lives for as long as it is used, and not much longer. Then nothing of it is stored.
func TestSessionsThatAreNotUsedAreGoneAndTakeNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = time.Hour
		db := dservertest.Start(t, Expiring(idle))
		ada := inside(t, site(Store{db, idle}))
		expectClicks(t, ada.see(), signedOut)
		expectClicks(t, ada.mustPost("/sign-in", "name", "ada"), 0)
		for range 10 { // looking is using
			<-time.After(idle - time.Second)
			expectClicks(t, ada.see(), 0)
		}
		for n := range 10 {
			<-time.After(idle - time.Second)
			expectClicks(t, ada.mustPost("/click"), n+1)
		}
		<-time.After(idle + idle/10 + time.Second)
		if rows := stored(t, db, true); len(rows) > 0 {
			t.Errorf("there is left:\n%s", strings.Join(rows, ""))
		}
		expectClicks(t, ada.see(), signedOut)
		expectClicks(t, ada.mustPost("/click"), signedOut)
		expectClicks(t, ada.mustPost("/sign-in", "name", "ada"), 0) // and not the clicks of before
	})
}

// Few of many requests write the timer: those of the same moment don't.
func TestUseThatFollowsUseWritesNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = time.Hour
		db := dservertest.Start(t, Expiring(idle))
		ada := inside(t, site(Store{db, idle}))
		ada.mustPost("/sign-in", "name", "ada")
		timer := func() string {
			for _, row := range stored(t, db, true) {
				if strings.HasPrefix(row, `("t"`) {
					return row
				}
			}
			return "none"
		}
		first := timer()
		for range 5 {
			<-time.After(idle / 60)
			ada.mustPost("/click")
			ada.see()
		}
		if now := timer(); now != first {
			t.Errorf("the timer is %s, and was %s", now, first)
		}
		<-time.After(2 * idle / 60)
		ada.see()
		if now := timer(); now == first {
			t.Errorf("the timer is still %s", now)
		}
	})
}

// While nothing runs that could fire a timer, an expired session is stored and does not count. The next consumer removes
// it.
func TestSessionsExpireWhileNoConsumerRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = time.Hour
		db := backendtest.NewModel()
		start := func() (stop func()) {
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error)
			go func() { ended <- dserver.Run(ctx, db, Expiring(idle)) }()
			stop = sync.OnceFunc(func() { cancel(); must(t, <-ended) })
			t.Cleanup(stop)
			return stop
		}
		stop := start()
		ada := inside(t, site(Store{db, idle}))
		expectClicks(t, ada.mustPost("/sign-in", "name", "ada"), 0)
		stop()
		<-time.After(2 * idle)
		if rows := stored(t, db, false); len(rows) == 0 {
			t.Fatal("the session is gone already: this proves little")
		}
		expectClicks(t, ada.see(), signedOut)
		stop = start()
		<-time.After(time.Minute)
		if rows := stored(t, db, true); len(rows) > 0 {
			t.Errorf("there is left:\n%s", strings.Join(rows, ""))
		}
		stop()
	})
}

// Whoever signs out while other tabs still click leaves nothing.
func TestASessionThatWasEndedIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = time.Hour
		db := dservertest.Start(t, Expiring(idle))
		ada := inside(t, site(Store{db, idle}))
		for range 5 {
			ada.mustPost("/sign-in", "name", "ada")
			at, err := url.Parse(ada.url)
			must(t, err)
			token := ada.client.Jar.Cookies(at)[0].Value
			var tabs sync.WaitGroup
			busy := make(chan struct{}, 100)
			for range 3 {
				tab := inside(t, site(Store{db, idle}))
				tab.setCookie(token)
				tabs.Go(func() {
					for range 5000 { // many more than there is time for
						page, err := tab.post("/click")
						if err != nil {
							t.Error(err)
						}
						if clicks(page) == signedOut {
							return
						}
						select {
						case busy <- struct{}{}:
						default:
						}
					}
				})
			}
			for range 20 {
				<-busy
			}
			expectClicks(t, ada.mustPost("/sign-out"), signedOut)
			tabs.Wait()
			ada.setCookie(token) // as somebody does who kept it
			expectClicks(t, ada.mustPost("/click"), signedOut)
		}
		dservertest.Settle(t, db)
		<-time.After(time.Second)
		if rows := stored(t, db, false); len(rows) > 0 {
			t.Errorf("there is left:\n%s", strings.Join(rows, ""))
		}
		<-time.After(2 * idle)
		if rows := stored(t, db, true); len(rows) > 0 {
			t.Errorf("in the index there is left:\n%s", strings.Join(rows, ""))
		}
	})
}

// Signing in gives a new cookie, and ends the session of the old one.
func TestSigningInEndsTheSessionOfBefore(t *testing.T) {
	db := dservertest.Start(t, Expiring(time.Hour))
	ada := inside(t, site(Store{db, time.Hour}))
	ada.mustPost("/sign-in", "name", "ada")
	at, err := url.Parse(ada.url)
	must(t, err)
	old := ada.client.Jar.Cookies(at)[0].Value
	ada.mustPost("/click")
	expectClicks(t, ada.mustPost("/sign-in", "name", "ada"), 0)
	ada.setCookie(old)
	expectClicks(t, ada.see(), signedOut)
}

// Whatever cookie a stranger sends, nothing is stored, and what the database holds is no cookie.
func TestCookiesOfStrangersStoreNothing(t *testing.T) {
	db := dservertest.Start(t, Expiring(time.Hour))
	mallory := inside(t, site(Store{db, time.Hour}))
	for _, token := range []string{"", "x", strings.Repeat("long", 900)} {
		mallory.setCookie(token)
		expectClicks(t, mallory.see(), signedOut)
		for _, path := range []string{"/click", "/note", "/sign-out"} {
			mallory.setCookie(token)
			expectClicks(t, mallory.mustPost(path, "about", "me", "text", "hello"), signedOut)
		}
	}
	dservertest.Settle(t, db)
	if rows := stored(t, db, true); len(rows) > 0 {
		t.Errorf("there is:\n%s", strings.Join(rows, ""))
	}
	ada := inside(t, site(Store{db, time.Hour}))
	ada.mustPost("/sign-in", "name", "ada")
	for ref, err := range dserver.Servers(t.Context(), db, Sessions.Name()) {
		must(t, err)
		mallory.setCookie(ref.ID)
		expectClicks(t, mallory.see(), signedOut)
	}
}
