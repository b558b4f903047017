package dserver_test

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Log is lines in the order in which they were handled.
type Log struct{ Lines []string }

// Line adds one.
type Line struct{ Text string }

// Count asks how many there are.
type Count struct{ dserver.Returns[int] }

var logs = dserver.Define("log",
	dserver.HandleCast(func(_ *dserver.Context, l *Log, m Line) error {
		l.Lines = append(l.Lines, m.Text)
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, l *Log, _ Count) (int, error) { return len(l.Lines), nil }),
)

// CastAll sends several messages as one atomic push: all or none, in order, with nothing in between.
func ExampleDServer_CastAll() {
	db, end := serve(logs)
	defer end()
	ctx := context.Background()

	l := logs.At(db, "today")
	if err := l.CastAll(ctx, []any{Line{"begin"}, Line{"work"}, Line{"end"}}); err != nil {
		fmt.Println(err)
	}
	n, err := dserver.Call(ctx, l, Count{}) // sees every cast that was acknowledged before
	fmt.Println(n, err)
	state, err := l.State(ctx)
	fmt.Println(state.Lines, err)
	// Output:
	// 3 <nil>
	// [begin work end] <nil>
}
