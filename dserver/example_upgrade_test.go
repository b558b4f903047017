package dserver_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/dserver-go/dserver/dserver"
)

// PersonV1 is how a person was stored before.
type PersonV1 struct{ Name string }

// Person is how it is stored now.
type Person struct{ First, Last string }

// Rename replaces the name.
type Rename struct{ Name string }

var people1 = dserver.Define("person",
	dserver.HandleCast(func(_ *dserver.Context, p *PersonV1, m Rename) error {
		p.Name = m.Name
		return nil
	}),
)

var people = dserver.Define("person",
	dserver.HandleCast(func(_ *dserver.Context, p *Person, m Rename) error {
		p.First, p.Last, _ = strings.Cut(m.Name, " ")
		return nil
	}),
	dserver.Upgrade(1, func(old PersonV1, p *Person) error {
		p.First, p.Last, _ = strings.Cut(old.Name, " ")
		return nil
	}),
)

// Upgrade reads states of an older version. Each is written in the new form with the next message that changes it, so
// there is nothing to migrate at once. Adding a field needs no upgrade.
func ExampleUpgrade() {
	db, remove := temporary()
	defer remove()
	ctx := context.Background()

	before, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- dserver.Run(before, db, people1) }()
	if err := people1.At(db, "ada").Call(ctx, Rename{"Ada Lovelace"}, nil); err != nil {
		fmt.Println(err)
	}
	stop()
	fmt.Println(<-ended)

	state, err := people.At(db, "ada").State(ctx)
	fmt.Println(state.Last, err)
	// Output:
	// <nil>
	// Lovelace <nil>
}
