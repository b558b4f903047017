package dserver_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
)

// The first program: a counter that survives its process.
func Example() {
	type Counter struct{ Count int64 }
	type Increment struct{ By int64 }
	type Value struct{ dserver.Returns[int64] } // a request that is answered with an int64

	counters := dserver.Define("counter",
		dserver.HandleCast(func(ctx *dserver.Context, c *Counter, m Increment) error {
			c.Count += m.By
			return nil
		}),
		dserver.HandleCall(func(ctx *dserver.Context, c *Counter, m Value) (int64, error) {
			return c.Count, nil
		}),
	)

	ctx := context.Background()
	db, remove := temporary()
	defer remove()
	go dserver.Run(ctx, db, counters) // this process runs counters until ctx ends

	visits := counters.At(db, "visits")
	if err := visits.Cast(ctx, Increment{By: 1}); err != nil { // durable when it returns
		log.Fatal(err)
	}
	n, err := dserver.Call(ctx, visits, Value{}) // n is an int64, inferred
	fmt.Println(n, err)
	// Output: 1 <nil>
}

// temporary opens a database in a folder of its own.
func temporary() (db backend.Database, remove func()) {
	dir, err := os.MkdirTemp("", "dserver")
	if err != nil {
		log.Fatal(err)
	}
	opened, err := sqlite.Open(filepath.Join(dir, "example.db"))
	if err != nil {
		log.Fatal(err)
	}
	return opened, func() {
		if err := opened.Close(); err != nil {
			log.Print(err)
		}
		_ = os.RemoveAll(dir) // a temporary folder
	}
}

// serve opens a database in a folder of its own and runs the types in this process until end is called.
func serve(types ...dserver.Type) (db backend.Database, end func()) {
	db, remove := temporary()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- dserver.Run(ctx, db, types...) }()
	return db, func() {
		cancel()
		if err := <-done; err != nil {
			log.Print(err)
		}
		remove()
	}
}
