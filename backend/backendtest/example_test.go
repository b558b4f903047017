package backendtest_test

import (
	"errors"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
)

// A scenario is an ordinary test that opens its handles with f. What it calls may answer ErrCommitUnknown, and a handle
// may die: it does what a user would do then, and at its end everything must be as if nothing had happened.
func ExampleEachFault() {
	var t *testing.T // the test's

	backendtest.EachFault(t, func(t *testing.T, f *backendtest.Fault) {
		db := f.Open()
		pay := func() error {
			return db.Transact(f.Context(), func(tx backend.Tx) error {
				paid, err := tx.Get(backend.NewKey("paid", "invoice 7")).Get()
				if paid != nil || err != nil {
					return err // the first attempt happened after all
				}
				tx.Set(backend.NewKey("paid", "invoice 7"), nil)
				tx.Add(backend.NewKey("balance"), -100)
				return nil
			})
		}
		for err := pay(); err != nil; err = pay() {
			if !errors.Is(err, backend.ErrCommitUnknown) {
				t.Fatalf("%v: %v", f, err)
			}
			if f.Crashed() {
				db = f.Open() // the process was started again
			}
		}
	})
}

// The faults work on any store. Here the random ones, for a torture with many goroutines.
func ExampleChaos() {
	var t *testing.T // the test's

	open := backendtest.Chaos(backendtest.Model, 0.05)(t)
	db := open()
	push := func(tx backend.Tx) error {
		tx.Append(backend.NewKey("queue"), []byte("a message"))
		return nil
	}
	for range 1000 {
		switch err := db.Transact(t.Context(), push); {
		case errors.Is(err, backend.ErrClosed):
			db = open() // it has died: this is the next process
		case err != nil && !errors.Is(err, backend.ErrCommitUnknown):
			t.Fatal(err)
		}
	}
}
