package dserver_test

import (
	"context"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/dserver"
)

// Door opens and closes.
type Door struct{ IsOpen bool }

// Turn is sent under the name that MessageName chose, so the Go type may be renamed.
type Turn struct{ Open bool }

// MessageName is the name on the wire.
func (Turn) MessageName() string { return "turn-door" }

var doors = dserver.Define("door",
	dserver.HandleCast(func(_ *dserver.Context, d *Door, m Turn) error {
		d.IsOpen = m.Open
		return nil
	}),
)

// A program without the Go types can send as well: a message is its name and its CBOR.
func ExampleRef_At() {
	db, end := serve(doors)
	defer end()
	ctx := context.Background()

	body, err := cbor.Marshal(map[string]any{"Open": true})
	if err != nil {
		fmt.Println(err)
	}
	front := dserver.Ref{Type: "door", ID: "front"}
	if err := front.At(db).Call(ctx, dserver.Message{Name: "turn-door", Body: body}, nil); err != nil {
		fmt.Println(err)
	}
	state, err := doors.At(db, "front").State(ctx)
	fmt.Println(front, state.IsOpen, err)
	// Output: door/front true <nil>
}
