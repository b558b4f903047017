package backend_test

import (
	"context"
	"fmt"
	"log"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
)

// A transaction reads and writes, and is committed once or not at all. Its function may run again, so it sets what is
// outside of it on its last line.
func ExampleDatabase() {
	ctx := context.Background()
	db := backendtest.NewStore().Open() // or that of a file, or of a cluster
	defer db.Close()

	account := func(name string) backend.Key { return backend.NewKey("balance", name) }
	deposit := func(name string, cents int64) {
		err := db.Transact(ctx, func(tx backend.Tx) error {
			tx.Add(account(name), cents) // reads nothing, so it conflicts with no other
			return nil
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	deposit("ann", 500)
	deposit("bob", 100)
	deposit("ann", 50)

	var balances []string
	err := db.Read(ctx, func(tx backend.ReadTx) error {
		pairs, err := tx.GetRange(backend.NewKey("balance").Below(), backend.RangeOptions{}).Get()
		var found []string
		for _, pair := range pairs {
			cents, err := backend.Counter(pair.Value)
			if err != nil {
				return err
			}
			found = append(found, fmt.Sprint(pair.Key, " = ", cents))
		}
		balances = found
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, line := range balances {
		fmt.Println(line)
	}
	// Output:
	// ("balance", "ann") = 550
	// ("balance", "bob") = 100
}

// Append writes in the order of commits, whoever commits: that is a queue.
func ExampleTx() {
	ctx := context.Background()
	db := backendtest.NewStore().Open()
	defer db.Close()
	for _, text := range []string{"first", "second"} {
		err := db.Transact(ctx, func(tx backend.Tx) error {
			tx.Append(backend.NewKey("log"), []byte(text))
			return nil
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	err := db.Read(ctx, func(tx backend.ReadTx) error {
		pairs, err := tx.GetRange(backend.NewKey("log").Below(), backend.RangeOptions{Limit: 10}).Get()
		for _, pair := range pairs {
			stamp, isStamped := pair.Key.CutStamp(backend.NewKey("log"))
			fmt.Println(isStamped, !stamp.IsZero(), string(pair.Value))
		}
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// true true first
	// true true second
}
