package dserver_test

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Game has a board that is set up before the first move.
type Game struct {
	Board string
	Moves []string
}

// Move is a player's turn.
type Move struct{ Text string }

var games = dserver.Define("game",
	dserver.Init(func(_ *dserver.Context, g *Game) error {
		g.Board = "8x8"
		return nil
	}),
	dserver.HandleCast(func(_ *dserver.Context, g *Game, m Move) error {
		g.Moves = append(g.Moves, m.Text)
		return nil
	}),
)

// Init runs in the turn of a server's first message, and is committed with it.
func ExampleInit() {
	db, end := serve(games)
	defer end()
	ctx := context.Background()

	if err := games.At(db, "one").Call(ctx, Move{"e4"}, nil); err != nil {
		fmt.Println(err)
	}
	state, err := games.At(db, "one").State(ctx)
	fmt.Println(state.Board, state.Moves, err)
	// Output: 8x8 [e4] <nil>
}
