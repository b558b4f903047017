package dserver_test

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Login is an account's state.
type Login struct {
	Password string
	Failures int
}

// SetPassword replaces the password.
type SetPassword struct{ Password string }

// Enter asks to be let in.
type Enter struct {
	dserver.Returns[string]
	Password string
}

// ErrPassword refuses an Enter.
var ErrPassword = &dserver.Error{Code: "password", Text: "wrong password"}

var logins = dserver.Define("login",
	dserver.HandleCast(func(_ *dserver.Context, l *Login, m SetPassword) error {
		l.Password = m.Password
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, l *Login, m Enter) (string, error) {
		if m.Password != l.Password {
			l.Failures++
			return "", dserver.Keep(ErrPassword) // without Keep, the failure would not be counted
		}
		return "welcome", nil
	}),
)

// An error rolls back what the handler changed. Keep answers with the error and commits all the same.
func ExampleKeep() {
	db, end := serve(logins)
	defer end()
	ctx := context.Background()

	ada := logins.At(db, "ada")
	if err := ada.Cast(ctx, SetPassword{"secret"}); err != nil {
		fmt.Println(err)
	}
	_, err := dserver.Call(ctx, ada, Enter{Password: "guess"})
	fmt.Println(err)
	state, err := ada.State(ctx)
	fmt.Println(state.Failures, err)
	// Output:
	// wrong password
	// 1 <nil>
}
