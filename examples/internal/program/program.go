// Package program is what the examples' commands have in common: how one begins, is interrupted and ends, and how a
// consumer runs beside what the program does.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Main runs a command, whose context ends when the process is interrupted. An error is printed, and ends the process with
// status 1; to have been asked for -help is no error.
func Main(name string, run func(ctx context.Context, args []string, out io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Consume runs servers beside do. It returns when do has returned and the turns in hand are finished, with the errors of
// both.
func Consume(ctx context.Context, db backend.Database, types dserver.Type, do func() error) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- dserver.Run(running, db, types) }()
	err := do()
	stop()
	return errors.Join(err, <-ended)
}
