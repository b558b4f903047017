// Command sessions is an HTTP server whose sessions survive it.
//
//	go run ./examples/sessions                         serves http://127.0.0.1:8080, with the sessions in sessions.db
//	go run ./examples/sessions -addr 127.0.0.1:8081    another one, with the same sessions, at the same time
//	go run ./examples/sessions -idle 1m                sessions that are not used for a minute expire
//
// Sign in, click, and kill the server, with kill -9 too: started again, or in the other one, you are signed in and each
// click counts. Of two tabs that change the session at the same time, neither undoes what the other did. A session that
// is not used expires by a timer, and takes no room afterwards.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/examples/internal/program"
)

func main() { program.Main("sessions", run) }

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("sessions", flag.ContinueOnError)
	name := flags.String("db", "sessions.db", "the `database`: "+open.Usage)
	address := flags.String("addr", "127.0.0.1:8080", "where to listen")
	idle := flags.Duration("idle", 30*time.Minute, "how long a session lives that is not used")
	if err := flags.Parse(args); err != nil {
		return err
	}
	db, err := open.Database(*name)
	if err != nil {
		return err
	}
	defer db.Close()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "serving http://%s\n", listener.Addr())
	return serve(ctx, db, listener, *idle)
}

// patience is how long requests in hand may take when the server ends.
const patience = 10 * time.Second

// serve serves the site and runs the sessions until ctx ends. The sessions run for longer than the site: its last
// requests need them.
func serve(ctx context.Context, db backend.Database, listener net.Listener, idle time.Duration) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended, served := make(chan error, 1), make(chan error, 1)
	go func() { ended <- dserver.Run(running, db, Expiring(idle)) }()
	server := &http.Server{Handler: site(Store{db, idle}), ReadHeaderTimeout: patience}
	go func() { served <- server.Serve(listener) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
	case err = <-ended: // the database cannot go on
		ended <- nil
	}
	closing, cancel := context.WithTimeout(running, patience)
	defer cancel()
	err = errors.Join(err, server.Shutdown(closing))
	stop()
	return errors.Join(err, <-ended)
}
