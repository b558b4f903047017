// Command counter is the first program: a counter that survives its process.
//
//	go run ./examples/counter                            kills processes that count, and compares; -keep keeps the file
//	go run ./examples/counter -db counter.db             increments the counter "visits" of counter.db and prints it
//	go run ./examples/counter -by 5 -senders 8 -n 100    eight senders, a hundred increments each
//
// Several of them may share one database: a file, or with the build tag fdb a FoundationDB cluster, as in
// -db 'fdb:/etc/foundationdb/fdb.cluster?dir=counter'. In two terminals:
//
//	go run ./examples/counter -serve                     consumes until it is interrupted
//	go run ./examples/counter -consume=false             sends, and is answered by the other process
//
// Kill any of them at any time, with kill -9 too: what was acknowledged is counted, once.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/examples/internal/program"
)

func main() { program.Main("counter", run) }

// options are the flags.
type options struct {
	db, id         string
	by             int64
	senders, n     int
	consume, serve bool
	wait           time.Duration
	from           int64 // a process of the demonstration counts on from here; negative in all others

	demonstrates, keep bool
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("counter", flag.ContinueOnError)
	flags.StringVar(&o.db, "db", "counter.db", "the `database`: "+open.Usage)
	flags.StringVar(&o.id, "id", "visits", "which counter")
	flags.Int64Var(&o.by, "by", 1, "what an increment adds")
	flags.IntVar(&o.senders, "senders", 1, "how many goroutines send")
	flags.IntVar(&o.n, "n", 1, "how many increments each of them sends")
	flags.BoolVar(&o.consume, "consume", true, "run counters in this process; false only sends")
	flags.BoolVar(&o.serve, "serve", false, "send nothing, and run counters until interrupted")
	flags.DurationVar(&o.wait, "wait", 5*time.Second, "how long to wait for the value")
	flags.Int64Var(&o.from, "from", -1, "count on from `N` until the input ends, and print what is acknowledged: a process of the demonstration")
	flags.BoolVar(&o.keep, "keep", false, "keep the file of the demonstration, which is what runs without other flags")
	err := flags.Parse(args)
	o.demonstrates = flags.NFlag() == 0 || o.keep
	return o, err
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.demonstrates {
		return o.demonstrate(ctx, out)
	}
	db, err := open.Database(o.db)
	if err != nil {
		return err
	}
	defer db.Close()
	if o.serve {
		fmt.Fprintln(out, "serving counters of", o.db)
		return dserver.Run(ctx, db, Counters)
	}
	send := func() error {
		if o.from >= 0 {
			return o.tally(ctx, db, os.Stdin, out)
		}
		return o.count(ctx, db, out)
	}
	if !o.consume {
		return send()
	}
	return program.Consume(ctx, db, Counters, send)
}

// count sends the increments and prints the counter's value.
func (o options) count(ctx context.Context, db backend.Database, out io.Writer) error {
	visits := Counters.At(db, o.id)
	if err := o.send(ctx, visits); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, o.wait)
	defer cancel()
	n, err := dserver.Call(waiting, visits, Value{}) // n is an int64, inferred
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no consumer answered within %v: what was sent is stored, and is counted when one runs", o.wait)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(out, n)
	return nil
}

// send sends from all senders at once. Each increment is durable before its sender sends the next.
func (o options) send(ctx context.Context, visits *dserver.DServer[Counter]) error {
	failures := make(chan error, o.senders)
	for range o.senders {
		go func() { failures <- o.sendAll(ctx, visits) }()
	}
	var err error
	for range o.senders {
		err = errors.Join(err, <-failures)
	}
	return err
}

func (o options) sendAll(ctx context.Context, visits *dserver.DServer[Counter]) error {
	for range o.n {
		if err := visits.Cast(ctx, Increment{By: o.by}); err != nil {
			return err
		}
	}
	return nil
}
