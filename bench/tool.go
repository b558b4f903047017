package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// withTool is the subject with a command of the admin tool beside it, in a process of its own, while it is measured. One that
// ends is run again after toolPause.
func withTool(args ...string) entry {
	return entry{"beside dserver " + strings.Join(args, " "), func(ctx context.Context, dir string, n int) (contender, error) {
		program, err := buildTool(ctx, dir)
		if err != nil {
			return nil, err
		}
		c, err := openDurable(ctx, dir, n)
		if err != nil {
			return nil, err
		}
		return &toolBeside{servers: c.(*servers), command: append([]string{program, "--db", file(dir)}, args...)}, nil
	}}
}

const toolPause = time.Second

// toolBeside is servers with a command beside them.
type toolBeside struct {
	*servers
	command []string
	leave   context.CancelFunc
	ended   chan error
	used    usage // by its runs that have ended
}

func (w *toolBeside) others() (usage, error) { return w.used, nil }

// begin implements beside.
func (w *toolBeside) begin(ctx context.Context) error {
	ctx, w.leave = context.WithCancel(ctx)
	w.ended = make(chan error, 1)
	go func() { w.ended <- w.runAgain(ctx) }()
	return nil
}

// end implements beside.
func (w *toolBeside) end() error {
	w.leave()
	return <-w.ended
}

// runAgain runs the command until ctx ends. What it prints is read by nobody.
func (w *toolBeside) runAgain(ctx context.Context) error {
	for ctx.Err() == nil {
		var failure strings.Builder
		c := exec.CommandContext(ctx, w.command[0], w.command[1:]...)
		c.Stderr, c.Cancel = &failure, func() error { return c.Process.Signal(os.Interrupt) }
		err := c.Run()
		w.used = w.used.plus(usage{CPU: c.ProcessState.UserTime() + c.ProcessState.SystemTime()})
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(w.command, " "), err, &failure)
		}
		select {
		case <-ctx.Done():
		case <-time.After(toolPause):
		}
	}
	return nil
}

// buildTool makes the program.
func buildTool(ctx context.Context, dir string) (program string, err error) {
	program = filepath.Join(dir, "dserver")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/dserver-go/dserver/cmd/dserver")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the tool, for which the working directory is to be a clone of the repository: %w: %s", err, out)
	}
	return program, nil
}
