package main

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/dserver-go/dserver/examples/internal/child"
)

// What the tests start as other processes.
const (
	roleProgram  = "program" // the program, with flags
	roleAll      = "all"     // consumes and sends
	roleConsumer = "consumer"
	roleSender   = "sender"

	// roleDemonstration is the program, and its processes in turn, which read their input themselves.
	roleDemonstration = "demonstration"
)

// patience is how long a call may take to be answered on a machine that is busy.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	if child.Asked() == roleDemonstration {
		main()
		return
	}
	works := func(role string) child.Role {
		return func(ctx context.Context, args []string, out io.Writer) error {
			return runChild(ctx, out, role, args[0], args[1])
		}
	}
	child.Main(m, map[string]child.Role{
		roleProgram:  func(context.Context, []string, io.Writer) error { main(); return nil },
		roleAll:      works(roleAll),
		roleConsumer: works(roleConsumer),
		roleSender:   works(roleSender),
	})
}
