package dserver_test

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// ErrNobody refuses messages of which nobody knows who sent them.
var ErrNobody = &dserver.Error{Code: "nobody", Text: "sign in first"}

// userKey is where the program keeps its user in a context.
type userKey struct{}

// Interceptors are given where the database is opened. Here one gives each message its user, and refuses those without.
func ExampleIntercept() {
	users := dserver.Interceptor{
		Send: func(ctx context.Context, s *dserver.Send, next func(context.Context) error) error {
			if user, ok := ctx.Value(userKey{}).(string); ok {
				s.SetHeader("user", user)
			}
			return next(ctx)
		},
		Handle: func(ctx context.Context, h *dserver.Handling, next func(context.Context) error) error {
			if h.Header("user") == "" {
				return ErrNobody
			}
			return next(ctx)
		},
	}
	store, remove := temporary()
	defer remove()
	db := dserver.Intercept(store, users)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go dserver.Run(ctx, db, tallies)

	mayor := tallies.At(db, "mayor")
	fmt.Println(dserver.Call(ctx, mayor, Vote{}))
	fmt.Println(dserver.Call(context.WithValue(ctx, userKey{}, "Ada"), mayor, Vote{}))
	// Output:
	// 0 sign in first
	// 1 <nil>
}
