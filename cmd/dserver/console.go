package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/dserver-go/dserver/console"
)

// consoleCommand serves the console.
type consoleCommand struct {
	Addr     string `default:"127.0.0.1:7070" placeholder:"HOST:PORT" help:"Where to listen. Beyond this host it asks for a token, which is in the address that it prints."`
	Token    bool   `help:"Ask for a token on this host, too: others have accounts on it."`
	ReadOnly bool   `help:"Look, and do not act."`
	Title    string `placeholder:"TEXT" help:"What the pages call the database; its name if it is not given."`
	TraceURL string `name:"trace-url" placeholder:"URL" help:"Where a trace is shown; {trace} in it stands for its id."`
}

// Limits of the server. Streams set their own deadlines.
const (
	headerTimeout  = 10 * time.Second
	requestTimeout = time.Minute
	idleTimeout    = 2 * time.Minute
	maxHeaders     = 64 << 10
	closePatience  = 10 * time.Second
)

// Run serves it until ctx ends.
func (c *consoleCommand) Run(ctx context.Context, t *tool) error {
	listener, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return err
	}
	handler, address := c.handler(ctx, t, listener.Addr())
	if err := t.out.line(map[string]string{"serving": address}, "serving %v until it is interrupted", address); err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaders,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err = <-served:
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
	defer cancel()
	return errors.Join(err, server.Shutdown(closing))
}

// handler is the console, and the address at which it can be opened.
func (c *consoleCommand) handler(ctx context.Context, t *tool, at net.Addr) (http.Handler, string) {
	host, port, _ := net.SplitHostPort(at.String())
	ip := net.ParseIP(host)
	options := console.Options{
		Title: cmp.Or(c.Title, shownDatabase(t.name)), ReadOnly: c.ReadOnly, TraceURL: c.TraceURL, Context: ctx, History: true,
		Authorize: func(*http.Request) (console.User, error) { return console.User{Name: t.actor, Act: true}, nil },
	}
	if ip.IsLoopback() {
		options.Hosts = loopbackHosts(at.String(), port)
	}
	handler, address := console.Handler(t.db, options), "http://"+net.JoinHostPort(host, port)+"/"
	if ip.IsUnspecified() {
		address = "http://" + net.JoinHostPort("localhost", port) + "/"
	}
	if ip.IsLoopback() && !c.Token {
		return handler, address
	}
	token := rand.Text()
	return console.WithToken(handler, token), address + "login?token=" + token
}

// loopbackHosts are the names by which browsers on this host ask: any other is a foreign page whose name resolves to it.
func loopbackHosts(address, port string) []string {
	hosts := []string{address}
	for _, name := range []string{"localhost", "127.0.0.1", "[::1]"} {
		hosts = append(hosts, name+":"+port)
		if port == "80" {
			hosts = append(hosts, name)
		}
	}
	return hosts
}

// shownDatabase is the name of a database without what may be a password.
func shownDatabase(name string) string {
	scheme, rest, isURL := strings.Cut(name, "://")
	if !isURL {
		return name
	}
	rest, _, _ = strings.Cut(rest, "?")
	if i := strings.LastIndex(rest, "@"); i >= 0 {
		rest = rest[i+1:]
	}
	return fmt.Sprint(scheme, "://", rest)
}
