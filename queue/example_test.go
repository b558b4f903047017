package queue_test

import (
	"context"
	"fmt"
	"log"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/queue"
)

// A consumer reads items and removes them in one transaction, with what it does for them: of two that read the same
// item only one commits. Pushes are in nobody's way.
func ExampleQueue() {
	db := backendtest.NewStore().Open()
	defer db.Close()
	transact := func(fn func(tx backend.Tx) error) {
		if err := db.Transact(context.Background(), fn); err != nil {
			log.Fatal(err)
		}
	}
	jobs := queue.At(backend.NewKey("jobs"))
	transact(func(tx backend.Tx) error {
		return jobs.Push(tx, queue.Normal, []byte("write a letter"), []byte("post it"))
	})
	transact(func(tx backend.Tx) error { return jobs.Push(tx, queue.Priority, []byte("put out the fire")) })

	for done := false; !done; {
		var text string
		transact(func(tx backend.Tx) error {
			items, err := jobs.Read(tx, queue.Item{}, 1)
			if err != nil || len(items) == 0 {
				done = true
				return err
			}
			jobs.Remove(tx, items...)
			tx.Add(backend.NewKey("done"), 1) // in the same commit
			text = string(items[0].Body)
			return nil
		})
		if !done {
			fmt.Println(text)
		}
	}
	// Output:
	// put out the fire
	// write a letter
	// post it
}
