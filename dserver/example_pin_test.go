package dserver_test

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Studio is a state: what was drawn, and where.
type Studio struct{ Pictures []string }

// Draw is sent to a studio.
type Draw struct {
	dserver.Returns[string]
	Picture string
}

var studio = dserver.Define[Studio]("studio")

// studios is the type as a host runs it.
func studios(host string) *dserver.Definition[Studio] {
	return studio.With(dserver.HandleCall(func(_ *dserver.Context, s *Studio, m Draw) (string, error) {
		s.Pictures = append(s.Pictures, m.Picture)
		return fmt.Sprintf("%s, drawn on the %s host, picture %d of this studio", m.Picture, host, len(s.Pictures)), nil
	}))
}

// Consumers run the servers of the labels that they list, wherever their processes are. Pin moves a server, with all that it
// has, and who sends to it need not know.
func ExampleDServer_Pin() {
	db, remove := temporary()
	defer remove()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	// On hosts in Europe: also what is not pinned.
	go dserver.Consumer{Labels: []string{"", "eu"}}.Run(ctx, db, studios("european"))
	// On hosts with a GPU: nothing else.
	go dserver.Consumer{Labels: []string{"gpu"}}.Run(ctx, db, studios("fast"))

	s := studio.At(db, "ada")
	draw := func(picture string) {
		drawn, err := dserver.Call(ctx, s, Draw{Picture: picture})
		fmt.Println(drawn, err)
	}
	draw("a cat")
	if err := s.Pin(ctx, "gpu"); err != nil {
		fmt.Println(err)
	}
	draw("a dog")
	// Output:
	// a cat, drawn on the european host, picture 1 of this studio <nil>
	// a dog, drawn on the fast host, picture 2 of this studio <nil>
}
