// Command live is a web page with a counter that moves in every browser that shows it.
//
//	go run ./examples/live                         serves http://127.0.0.1:8080, with the counters in live.db
//	go run ./examples/live -addr 127.0.0.1:8081    another one, with the same counters, at the same time
//
// Open both in a few tabs and click: all of them show the count at once. Kill a server, with kill -9 too, and start it again:
// its tabs connect by themselves and show what was counted meanwhile. However many browsers watch a counter, each server has
// one watch of the database for it.
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
	"github.com/dserver-go/dserver/examples/internal/program"
)

func main() { program.Main("live", run) }

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("live", flag.ContinueOnError)
	name := flags.String("db", "live.db", "the `database`: "+open.Usage)
	address := flags.String("addr", "127.0.0.1:8080", "where to listen")
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
	return program.Consume(context.WithoutCancel(ctx), db, Counters, func() error { return serve(ctx, db, listener) })
}

// patience is how long requests in hand may take when the server ends.
const patience = 10 * time.Second

// serve serves the site until ctx ends. Streams have no end of their own, so they end with ctx; clicks in hand are answered.
func serve(ctx context.Context, db backend.Database, listener net.Listener) error {
	server := &http.Server{Handler: site(ctx, db), ReadHeaderTimeout: patience}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return errors.Join(err, server.Shutdown(closing))
}
