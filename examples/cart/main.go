// Command cart has two people at one shop cart.
//
//	go run ./examples/cart              Ada and Bob fill a cart of cart.db, and one of them places the order
//	go run ./examples/cart -puts 1000   each of them puts in that much
//
// Nothing that one of them puts in is lost because the other one puts in something at the same time, and nobody pays for
// what they did not see.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/examples/internal/program"
)

func main() { program.Main("cart", run) }

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("cart", flag.ContinueOnError)
	name := flags.String("db", "cart.db", "the `database`: "+open.Usage)
	puts := flags.Int("puts", 100, "how often each of the two puts something in")
	if err := flags.Parse(args); err != nil {
		return err
	}
	db, err := open.Database(*name)
	if err != nil {
		return err
	}
	defer db.Close()
	household := Carts.At(db, "household at "+time.Now().Format(time.RFC3339Nano))
	return program.Consume(ctx, db, Carts, func() error { return shop(ctx, household, *puts, out) })
}

// shop is what the two do, at the same time. Each places the order when done, until it is placed by one of them.
func shop(ctx context.Context, cart *dserver.DServer[Cart], puts int, out io.Writer) error {
	done := make(chan error)
	for who, article := range map[string]Item{"Ada": {"tea", 1, 350}, "Bob": {"cake", 2, 120}} {
		go func() {
			for range puts {
				if err := cart.Cast(ctx, Put(article)); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		fmt.Fprintf(out, "%s puts in %d times %d %s\n", who, puts, article.N, article.Article)
	}
	if err := errors.Join(<-done, <-done); err != nil {
		return err
	}
	for _, who := range []string{"Ada", "Bob"} {
		go func() { done <- place(ctx, cart, who) }()
	}
	first, second := <-done, <-done
	if errors.Is(first, ErrPlaced) == errors.Is(second, ErrPlaced) {
		return fmt.Errorf("of two orders one is placed: %w", errors.Join(first, second))
	}
	placed, err := dserver.Call(ctx, cart, Show{})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "order %s, the other one was too late:\n", placed.Placed)
	for _, item := range placed.Items {
		fmt.Fprintf(out, "  %4d %-5s %8.2f\n", item.N, item.Article, float64(item.Cents)*float64(item.N)/100)
	}
	return nil
}

// place orders what is in the cart, as somebody does who looks at it first, and again when it has changed.
func place(ctx context.Context, cart *dserver.DServer[Cart], who string) error {
	for {
		seen, err := dserver.Call(ctx, cart, Show{})
		if err != nil {
			return err
		}
		_, err = dserver.Call(ctx, cart, Place{Number: "by " + who, Cents: seen.Cents()})
		if !errors.Is(err, ErrChanged) {
			return err
		}
	}
}
