package dserver_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// Mend puts another message in the place of one that fails, while it waits for its next attempt. Who did it is written down.
func ExampleDServer_Mend() {
	db := backendtest.NewModel()
	defer db.Close()
	ctx := dserver.WithActor(context.Background(), "ada@ops-1")
	visits := counters.At(db, "visits")
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	must(visits.Cast(ctx, Increment{By: -1}))
	for waits, err := range visits.Queue(ctx) {
		must(err)
		must(visits.Mend(ctx, waits, Increment{By: 1}))
	}
	for act, err := range dserver.Audit(ctx, db) {
		must(err)
		fmt.Println(act.By, act.Verb, act.Ref, act.After.Name)
	}
	// Output: ada@ops-1 Mend counter/visits Increment
}

// SetState writes a state that is wrong as it should be, if nobody has changed it since it was read. The server is paused
// meanwhile, so that its turns are not faster.
func ExampleDServer_SetState() {
	db := backendtest.NewModel()
	defer db.Close()
	ctx := context.Background()
	visits := counters.At(db, "visits")
	if err := visits.Pause(ctx); err != nil {
		fmt.Println(err)
	}
	state, seen, err := visits.Versioned(ctx)
	if err != nil {
		fmt.Println(err)
	}
	state.Count = 42
	if _, err := visits.SetState(ctx, seen, state); err != nil {
		fmt.Println(err)
	}
	_, err = visits.SetState(ctx, seen, state) // of another version by now
	fmt.Println(errors.Is(err, dserver.ErrChanged))
	if err := visits.Resume(ctx); err != nil {
		fmt.Println(err)
	}
	state, err = visits.State(ctx)
	fmt.Println(state.Count, err)
	// Output:
	// true
	// 42 <nil>
}
