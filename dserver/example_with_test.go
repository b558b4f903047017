package dserver_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/dserver-go/dserver/dserver"
)

// List is the addresses that receive a newsletter.
type List struct{ Addresses map[string]bool }

// Subscribe adds an address.
type Subscribe struct{ Address string }

// lists is an address: producers import it, and nothing that its handlers need.
var lists = dserver.Define[List]("list")

// worker is what the handlers depend on.
type worker struct{ blocked string }

func (w worker) subscribe(_ *dserver.Context, l *List, m Subscribe) error {
	if strings.HasSuffix(m.Address, w.blocked) {
		return fmt.Errorf("%s is blocked", m.Address)
	}
	l.Addresses[m.Address] = true
	return nil
}

// Handlers get what they depend on as closures or as method values; only the process that consumes needs it.
func ExampleDefinition_With() {
	w := worker{blocked: "@example.org"}
	db, end := serve(lists.With(dserver.HandleCast(w.subscribe)))
	defer end()
	ctx := context.Background()

	news := lists.At(db, "news") // a producer has the address alone
	for _, address := range []string{"a@example.com", "b@example.org"} {
		if err := news.Call(ctx, Subscribe{address}, nil); err != nil {
			fmt.Println(err)
		}
	}
	state, err := news.State(ctx)
	fmt.Println(state.Addresses, err)
	// Output:
	// b@example.org is blocked
	// map[a@example.com:true] <nil>
}
