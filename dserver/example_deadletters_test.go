package dserver_test

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Printer is a state whose handler refuses some of its messages.
type Printer struct{ Pages int }

// Print adds pages.
type Print struct{ Pages int }

var printers = dserver.Define("printer",
	dserver.HandleCast(func(_ *dserver.Context, p *Printer, m Print) error {
		if m.Pages > 100 {
			return fmt.Errorf("%d pages are too many", m.Pages)
		}
		p.Pages += m.Pages
		return nil
	}),
)

// What was set aside can be listed, and then retried, changed or not, or discarded.
func ExampleDServer_DeadLetters() {
	db, end := serve(printers)
	defer end()
	ctx := context.Background()

	p := printers.At(db, "hall")
	if err := p.Cast(ctx, Print{500}); err != nil { // no error: it is durable, and handled later
		fmt.Println(err)
	}
	if err := p.Call(ctx, Print{1}, nil); err != nil { // waits until both were handled
		fmt.Println(err)
	}
	for letter, err := range p.DeadLetters(ctx) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(letter.Message.Name, "refused:", letter.Err.Text)
		if err := p.Discard(ctx, letter); err != nil {
			fmt.Println(err)
		}
	}
	status, err := p.Status(ctx)
	fmt.Println(status.DeadLetters, err)
	// Output:
	// Print refused: 500 pages are too many
	// 0 <nil>
}
