// Command order charges cards from a process that is killed between a charge and its commit, and no card twice.
//
//	go run ./examples/order                             3 orders of order.db are paid; the worker is killed in the middle
//	go run ./examples/order -orders 20 -crash=false     20 orders, and nobody is killed
//
// The program plays the card provider and the buyers, each of whom presses the button twice. The cards are charged by
// workers, which are processes of their own. The first worker is killed, with kill -9, when the provider has made a charge
// and nobody was told. Another worker takes over after a few seconds, asks the provider with the same key, and is
// answered with the charge that was made.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/examples/internal/program"
)

func main() { program.Main("order", run) }

type options struct {
	db, worker string
	orders     int
	crash      bool
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("order", flag.ContinueOnError)
	flags.StringVar(&o.db, "db", "order.db", "the `database`: "+open.Usage)
	flags.IntVar(&o.orders, "orders", 3, "how many orders are placed and paid")
	flags.BoolVar(&o.crash, "crash", true, "kill the worker after its first charge")
	flags.StringVar(&o.worker, "worker", "", "be a worker, which charges cards through the provider at this `URL`")
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
	if o.worker != "" {
		return work(ctx, db, o.worker, os.Stdin, out)
	}
	return o.shop(ctx, db, out)
}

// shop is the provider, the buyers, and the crash.
func (o options) shop(ctx context.Context, db backend.Database, out io.Writer) (err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	workers := &staff{db: o.db, provider: "http://" + listener.Addr().String(), failed: cancel}
	provider := &Provider{}
	if o.crash {
		first := sync.OnceFunc(workers.crash)
		provider.Watch = func(m Moment) {
			if m == Charged {
				first()
			}
		}
	}
	server := &http.Server{Handler: provider, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }() // until Close
	defer server.Close()

	if err := workers.hire(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, workers.dismiss()) }()
	receipts, err := o.buy(ctx, db)
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	for card, receipt := range receipts {
		if got := provider.Of(card); len(got) != 1 || got[0] != receipt.Charge {
			return fmt.Errorf("%s has the receipt %v, and was charged %v", card, receipt, got)
		}
	}
	asked, charges := provider.Count()
	fmt.Fprintf(out, "%d orders are paid: the provider was asked %d times and made %d charges\n", len(receipts), asked, charges)
	if charges != o.orders {
		return fmt.Errorf("%d charges for %d orders", charges, o.orders)
	}
	return nil
}

// buy pays all orders at once, and returns the receipts by card.
func (o options) buy(ctx context.Context, db backend.Database) (map[string]Receipt, error) {
	now := time.Now().Format(time.RFC3339Nano)
	receipts := map[string]Receipt{}
	var mu sync.Mutex // guards receipts
	failed := make(chan error, o.orders)
	for i := range o.orders {
		go func() {
			name := fmt.Sprintf("%s %d", now, i)
			receipt, err := buyer{Orders.At(db, name), "card of " + name}.buy(ctx, int64(100*(i+1)))
			mu.Lock()
			defer mu.Unlock()
			receipts["card of "+name] = receipt
			failed <- err
		}()
	}
	var err error
	for range o.orders {
		err = errors.Join(err, <-failed)
	}
	return receipts, err
}

// buyer has an order and a card.
type buyer struct {
	order *dserver.DServer[Order]
	card  string
}

// buy places the order and presses the button twice, at once.
func (b buyer) buy(ctx context.Context, cents int64) (Receipt, error) {
	if err := b.order.Cast(ctx, Place{cents}); err != nil {
		return Receipt{}, err
	}
	var receipts [2]Receipt
	var failures [2]error
	var both sync.WaitGroup
	for i := range receipts {
		both.Go(func() { receipts[i], failures[i] = dserver.Call(ctx, b.order, Pay{Card: b.card}) })
	}
	both.Wait()
	err := errors.Join(failures[:]...)
	if err == nil && (receipts[0] != receipts[1] || receipts[0].Cents != cents) {
		err = fmt.Errorf("%s costs %d and got the receipts %v", b.card, cents, receipts)
	}
	return receipts[0], err
}
