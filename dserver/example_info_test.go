package dserver_test

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Upload counts bytes.
type Upload struct {
	Received int64
	Stopped  bool
}

// Received reports progress.
type Received struct{ Bytes int64 }

// Stop ends the upload, whatever is queued.
type Stop struct{}

var uploads = dserver.Define("upload",
	dserver.HandleCast(func(_ *dserver.Context, u *Upload, m Received) error {
		if !u.Stopped {
			u.Received += m.Bytes
		}
		return nil
	}),
	dserver.HandleInfo(func(_ *dserver.Context, u *Upload, _ Stop) error {
		u.Stopped = true
		return nil
	}),
)

// Info runs a handler here and now, past the queue and the lock, and without a consumer. Its change is durable; the
// message itself is not.
func ExampleHandleInfo() {
	db, remove := temporary()
	defer remove()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	u := uploads.At(db, "film")
	if err := u.Cast(ctx, Received{1000}); err != nil { // waits on the queue
		fmt.Println(err)
	}
	if err := u.Info(ctx, Stop{}); err != nil { // does not
		fmt.Println(err)
	}
	go dserver.Run(ctx, db, uploads)
	if err := u.Call(ctx, Received{1000}, nil); err != nil {
		fmt.Println(err)
	}
	state, err := u.State(ctx)
	fmt.Println(state.Received, state.Stopped, err)
	// Output: 0 true <nil>
}
