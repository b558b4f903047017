package dserver_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the library that backend/sqlite uses

	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
)

// Hotel is how many rooms are free. Its bookings are rows of a table of the program's, for reports and searches.
type Hotel struct{ Free int }

// Book takes a room.
type Book struct {
	dserver.Returns[int]
	Guest string
}

var errFull = &dserver.Error{Code: "full", Text: "no room is free"}

var hotels = dserver.Define("hotel",
	dserver.Init(func(_ *dserver.Context, h *Hotel) error {
		h.Free = 2
		return nil
	}),
	dserver.HandleCall(func(ctx *dserver.Context, h *Hotel, m Book) (int, error) {
		if h.Free == 0 {
			return 0, errFull
		}
		h.Free--
		ctx.Exec("INSERT INTO bookings (hotel, guest) VALUES ($1, $2)", ctx.Self().ID, m.Guest)
		return h.Free, nil
	}),
)

// A row of the program's own table is committed with the state, once or not at all. Here a guest has one room at most, as the
// table says.
func ExampleContext_Exec() {
	dir, err := os.MkdirTemp("", "hotels")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "hotels.db")
	db, err := sqlite.Open(path) // before the program's own connection, as the file is its
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	tables, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		log.Fatal(err)
	}
	defer tables.Close()
	if _, err := tables.Exec("CREATE TABLE bookings (hotel TEXT, guest TEXT PRIMARY KEY)"); err != nil {
		log.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- dserver.Run(ctx, db, hotels) }()
	ritz := hotels.At(db, "ritz")
	for _, guest := range []string{"ada", "ada", "bob", "eve"} {
		free, err := dserver.Call(ctx, ritz, Book{Guest: guest})
		switch {
		case errors.Is(err, dserver.ErrStatement):
			fmt.Println(guest, "has a room")
		case err != nil:
			fmt.Println(guest, "gets:", err)
		default:
			fmt.Println(guest, "has one;", free, "left")
		}
	}
	var rows int
	if err := tables.QueryRow("SELECT count(*) FROM bookings").Scan(&rows); err != nil {
		log.Fatal(err)
	}
	fmt.Println(rows, "bookings")
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	// Output:
	// ada has one; 1 left
	// ada has a room
	// bob has one; 0 left
	// eve gets: no room is free
	// 2 bookings
}
