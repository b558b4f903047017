// Command bank moves money between accounts, and looks all the time whether it is still all there.
//
//	go run ./examples/bank                    a thousand transfers between ten accounts of bank.db
//	go run ./examples/bank -consume=false     the same, with consumers in other processes:
//	go run ./examples/bank -serve             runs accounts until it is interrupted, or killed
//
// A transfer is one message to the account that pays. That it is poorer, and that the other one will be richer, is one
// commit: there is no moment, and no crash, in which the money is gone or there twice.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/examples/internal/program"
)

func main() { program.Main("bank", run) }

type options struct {
	db             string
	transfers      int
	senders        int
	consume, serve bool
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bank", flag.ContinueOnError)
	flags.StringVar(&o.db, "db", "bank.db", "the `database`: "+open.Usage)
	flags.IntVar(&o.transfers, "transfers", 1000, "how many transfers are made")
	flags.IntVar(&o.senders, "senders", 8, "how many goroutines make them")
	flags.BoolVar(&o.consume, "consume", true, "run accounts in this process")
	flags.BoolVar(&o.serve, "serve", false, "make no transfers, and run accounts until interrupted")
	err := flags.Parse(args)
	return o, err
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	db, err := open.Database(o.db)
	if err != nil {
		return err
	}
	defer db.Close()
	if o.serve {
		fmt.Fprintln(out, "serving accounts of", o.db)
		return dserver.Run(ctx, db, Accounts)
	}
	if !o.consume {
		return o.work(ctx, db, out)
	}
	return program.Consume(ctx, db, Accounts, func() error { return o.work(ctx, db, out) })
}

const (
	accounts = 10
	first    = 100_00 // cents in each of them
)

// work opens the accounts, makes the transfers, and audits meanwhile.
func (o options) work(ctx context.Context, db backend.Database, out io.Writer) error {
	for i := range accounts {
		err := Accounts.At(db, name(i)).Call(ctx, Open{first}, nil, dserver.Once("open")) // also if bank.db is there already
		if err != nil {
			return err
		}
	}
	auditing, stop := context.WithCancel(ctx)
	defer stop()
	audited := make(chan error, 1)
	var audits atomic.Int64
	go func() { audited <- auditUntil(auditing, ctx, db, &audits) }()

	refused, err := o.transfer(ctx, db)
	if err != nil {
		return err
	}
	stop()
	if err := <-audited; err != nil {
		return err
	}
	fmt.Fprintf(out, "%d transfers, %d of them refused\n", o.transfers, refused)
	fmt.Fprintf(out, "%d audits meanwhile, each found %d.%02d\n", audits.Load(), total/100, total%100)
	return nil
}

const total = accounts * first

func name(i int) string { return "account " + strconv.Itoa(i) }

// auditUntil audits until the first context ends. An audit that has begun is finished.
func auditUntil(until, ctx context.Context, db backend.Database, audits *atomic.Int64) error {
	for {
		r, err := Audit(ctx, db)
		if err != nil {
			return err
		}
		if r.Total != total {
			return fmt.Errorf("an audit found %d cents, %d of them on their way, not %d", r.Total, r.OnItsWay, total)
		}
		audits.Add(1)
		select {
		case <-until.Done():
			return nil
		case <-time.After(time.Millisecond): // leaves the machine to the transfers
		}
	}
}

// transfer makes random transfers, and returns how many of them an account could not pay.
func (o options) transfer(ctx context.Context, db backend.Database) (int, error) {
	var senders sync.WaitGroup
	var made, refused atomic.Int64
	failed := make(chan error, o.senders)
	for range o.senders {
		senders.Go(func() {
			for made.Add(1) <= int64(o.transfers) {
				from, to := rand.IntN(accounts), rand.IntN(accounts)
				_, err := dserver.Call(ctx, Accounts.At(db, name(from)), Transfer{To: name(to), Cents: 1 + rand.Int64N(first)})
				if errors.Is(err, ErrFunds) {
					refused.Add(1)
				} else if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	senders.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
		return int(refused.Load()), nil
	}
}
