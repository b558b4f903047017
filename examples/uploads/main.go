// Command uploads lets a few uploads run at a time, whatever becomes of the programs that make them.
//
//	go run ./examples/uploads                             30 uploads, 3 at a time; 2 crash and never give back their slots
//	go run ./examples/uploads -uploads 50 -slots 10 -crash 9
//
// Several of them may share one database, and with it the slots.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/examples/internal/program"
)

func main() { program.Main("uploads", run) }

type options struct {
	db                    string
	slots, uploads, crash int
	longest               time.Duration
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("uploads", flag.ContinueOnError)
	flags.StringVar(&o.db, "db", "uploads.db", "the `database`: "+open.Usage)
	flags.IntVar(&o.slots, "slots", 3, "how many uploads may run at once")
	flags.IntVar(&o.uploads, "uploads", 30, "how many uploads are made")
	flags.IntVar(&o.crash, "crash", 2, "how many of them crash while they hold a slot")
	flags.DurationVar(&o.longest, "longest", 400*time.Millisecond, "how long an upload takes at most")
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
	return program.Consume(ctx, db, Limiters, func() error { return o.work(ctx, db, out) })
}

// work makes all uploads at once. The first of them crash.
func (o options) work(ctx context.Context, db backend.Database, out io.Writer) error {
	limiter := Limiters.At(db, "uploads")
	if err := limiter.Cast(ctx, SetSlots{o.slots}); err != nil {
		return err
	}
	began := time.Now()
	program := began.Format("15:04:05.000") // several programs may share the slots
	var all sync.WaitGroup
	var now, most, done atomic.Int64
	failed := make(chan error, o.uploads)
	for i := range o.uploads {
		name := fmt.Sprintf("%s upload %d", program, i)
		all.Go(func() {
			if i < o.crash { // it gets a slot, and is never heard of again
				_, err := dserver.Call(ctx, limiter, Acquire{Upload: name})
				failed <- err
				return
			}
			failed <- Upload(ctx, limiter, name, func(ctx context.Context) error {
				raise(&most, now.Add(1))
				defer now.Add(-1)
				select {
				case <-time.After(rand.N(o.longest)):
					done.Add(1)
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		})
	}
	all.Wait()
	var err error
	for range o.uploads {
		err = errors.Join(err, <-failed)
	}
	fmt.Fprintf(out, "%d uploads done in %.1f s, %d at a time; %d crashed with a slot in hand, which came back\n",
		done.Load(), time.Since(began).Seconds(), most.Load(), o.crash)
	return err
}

// raise makes the highest at least n.
func raise(highest *atomic.Int64, n int64) {
	for {
		h := highest.Load()
		if h >= n || highest.CompareAndSwap(h, n) {
			return
		}
	}
}
