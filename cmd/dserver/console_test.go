package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/dserver"
)

// served runs the console as a process, until the test ends, and returns where it is.
func served(t *testing.T, dir string, args ...string) string {
	t.Helper()
	program, err := os.Executable()
	must(t, err)
	command := exec.Command(program, append([]string{"--db", "app.db", "console", "--addr", "127.0.0.1:0"}, args...)...)
	command.Dir = dir
	command.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "DSERVER_ACTOR=ada@ops", asTool+"=1")
	out, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	t.Cleanup(func() {
		must(t, command.Process.Signal(os.Interrupt))
		if err := command.Wait(); err != nil {
			t.Errorf("when it is interrupted, it ends with %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	_, address, isThere := strings.Cut(strings.TrimSpace(line), "serving ")
	if !isThere {
		t.Fatalf("it says %q", line)
	}
	address, _, _ = strings.Cut(address, " ")
	return address
}

// fetch asks for a page. Cookies and redirections are the caller's.
func fetch(t *testing.T, method, url, host string, cookies ...*http.Cookie) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	must(t, err)
	r.Host = host
	for _, c := range cookies {
		r.AddCookie(c)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(r)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return response, string(body)
}

// The console is served beside the application, by another process, and acts in the name of who started it.
func TestTheConsoleIsServed(t *testing.T) {
	dir, db := start(t)
	must(t, counters.At(db, "visits").Call(t.Context(), add{By: 41}, nil))
	at := served(t, dir, "--title", "the shop")
	if r, body := fetch(t, http.MethodGet, at, ""); r.StatusCode != http.StatusOK || !strings.Contains(body, "the shop") || !strings.Contains(body, "counter") {
		t.Errorf("the overview is %s: %s", r.Status, body)
	}
	if _, body := fetch(t, http.MethodGet, at+"server/counter/visits", ""); !strings.Contains(body, "41") {
		t.Errorf("the page of a server is %s", body)
	}
	if r, _ := fetch(t, http.MethodGet, at, "evil.example.org"); r.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a name that resolves to it is answered %s", r.Status)
	}
	_, port, err := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(at, "http://"), "/"))
	must(t, err)
	if r, _ := fetch(t, http.MethodGet, at, "localhost:"+port); r.StatusCode != http.StatusOK {
		t.Errorf("localhost is answered %s", r.Status)
	}
	if r, body := fetch(t, http.MethodPost, at+"server/counter/visits/do/pause", ""); r.StatusCode != http.StatusSeeOther {
		t.Errorf("pause is %s: %s", r.Status, body)
	}
	status := statusOf(t, db, dserver.Ref{Type: "counter", ID: "visits"})
	if !status.Paused || status.PausedBy != "ada@ops" {
		t.Errorf("after it was paused it is %+v", status)
	}
	readOnly := served(t, dir, "--read-only")
	if r, _ := fetch(t, http.MethodPost, readOnly+"server/counter/visits/do/resume", ""); r.StatusCode != http.StatusForbidden {
		t.Errorf("read-only, resume is %s", r.Status)
	}
}

// Where others can reach it, it asks for the token that it has printed.
func TestTheConsoleAsksForItsToken(t *testing.T) {
	dir, _ := start(t)
	at := served(t, dir, "--token")
	root, token, hasToken := strings.Cut(at, "login?token=")
	if !hasToken || len(token) < 26 {
		t.Fatalf("it is served at %s", at)
	}
	if r, _ := fetch(t, http.MethodGet, root, ""); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the token it is %s", r.Status)
	}
	if r, _ := fetch(t, http.MethodGet, root+"login?token="+strings.ToLower(token), ""); r.StatusCode != http.StatusForbidden {
		t.Errorf("with another token it is %s", r.Status)
	}
	r, _ := fetch(t, http.MethodGet, at, "")
	if r.StatusCode != http.StatusSeeOther || len(r.Cookies()) != 1 || !r.Cookies()[0].HttpOnly || r.Cookies()[0].SameSite != http.SameSiteStrictMode {
		t.Fatalf("the token is answered %s, %v", r.Status, r.Cookies())
	}
	if r, _ := fetch(t, http.MethodGet, root, "", r.Cookies()...); r.StatusCode != http.StatusOK {
		t.Errorf("with the cookie it is %s", r.Status)
	}
}

// Whether it asks is decided by where it listens, not by what the address was called.
func TestAConsoleBeyondThisHostNeedsAToken(t *testing.T) {
	_, db := start(t)
	for ip, asks := range map[string]bool{"127.0.0.1": false, "127.3.2.1": false, "::1": false, "0.0.0.0": true, "::": true, "192.0.2.7": true} {
		handler, address := (&consoleCommand{}).handler(t.Context(), &tool{db: db, name: "app.db"}, &net.TCPAddr{IP: net.ParseIP(ip), Port: 7070})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Host = net.JoinHostPort(ip, "7070")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if asked := w.Code == http.StatusUnauthorized; asked != asks || strings.Contains(address, "token=") != asks || !asks && w.Code != http.StatusOK {
			t.Errorf("at %s it is %d, and the address %s", ip, w.Code, address)
		}
	}
}

func TestTheNameOfADatabaseIsShownWithoutItsPassword(t *testing.T) {
	for name, want := range map[string]string{
		"app.db":                                "app.db",
		"sqlite:app.db":                         "sqlite:app.db",
		"postgres://ada:s3cret@db/x?password=y": "postgres://db/x",
		"postgres://a:b@c@db/x":                 "postgres://db/x",
	} {
		if got := shownDatabase(name); got != want {
			t.Errorf("%s is shown as %s", name, got)
		}
	}
}
