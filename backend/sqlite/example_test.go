package sqlite_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/sqlite"
)

// folder is an empty one, and removes it.
func folder() (name string, remove func()) {
	name, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	return name, func() { _ = os.RemoveAll(name) }
}

// A file is made when it is not there. What was committed is there when it is opened again.
func ExampleOpen() {
	dir, remove := folder()
	defer remove()
	path := filepath.Join(dir, "app.db")
	visit := func() (n int64, err error) {
		db, err := sqlite.Open(path)
		if err != nil {
			return 0, err
		}
		defer db.Close()
		visits := backend.NewKey("visits")
		err = db.Transact(context.Background(), func(tx backend.Tx) error {
			value, err := tx.Get(visits).Get()
			if err != nil {
				return err
			}
			before, err := backend.Counter(value)
			if err != nil {
				return err
			}
			tx.Add(visits, 1)
			n = before + 1
			return nil
		})
		return n, err // it is on the disk now
	}
	for range 3 {
		fmt.Println(visit())
	}
	// Output:
	// 1 <nil>
	// 2 <nil>
	// 3 <nil>
}

// Relaxed commits return before they are on the disk. An import can be started again, so it need not wait for each.
func ExampleRelaxed() {
	dir, remove := folder()
	defer remove()
	db, err := sqlite.Open(filepath.Join(dir, "import.db"), sqlite.Relaxed())
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	ctx := context.Background()
	for i := range int64(100) {
		err := db.Transact(ctx, func(tx backend.Tx) error {
			tx.Set(backend.NewKey("square", i), fmt.Append(nil, i*i))
			return nil
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	err = db.Read(ctx, func(tx backend.ReadTx) error {
		value, err := tx.Get(backend.NewKey("square", int64(12))).Get()
		fmt.Println(string(value))
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: 144
}
