package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// withTool is the subject with a command of the admin tool beside it, in a process of its own. One that ends is run again after
// toolPause.
func withTool(args ...string) entry {
	return entry{name: "beside dserver " + strings.Join(args, " "), start: func(ctx context.Context, dir string) (companion, error) {
		program, err := buildTool(ctx, dir)
		return &toolBeside{command: append([]string{program, "--db", file(dir)}, args...)}, err
	}}
}

const toolPause = time.Second

// toolBeside is a command.
type toolBeside struct {
	command []string
	leave   context.CancelFunc
	ended   chan error
	used    usage // by its runs that have ended
}

func (w *toolBeside) others() (usage, error) { return w.used, nil }

// begin implements companion.
func (w *toolBeside) begin(ctx context.Context) {
	ctx, w.leave = context.WithCancel(ctx)
	w.ended = make(chan error, 1)
	go func() { w.ended <- w.runAgain(ctx) }()
}

// end implements companion.
func (w *toolBeside) end() error {
	w.leave()
	return <-w.ended
}

// runAgain runs the command until ctx ends. What it prints is read by nobody.
func (w *toolBeside) runAgain(ctx context.Context) error {
	for ctx.Err() == nil {
		var failure strings.Builder
		c := interruptible(ctx, w.command)
		c.Stderr = &failure
		err := c.Run()
		w.used = w.used.plus(cpuOf(c))
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

// withBrowsers is the subject with a console beside it, in a process of its own, whose overview so many browsers show.
func withBrowsers(browsers int) entry {
	return entry{name: fmt.Sprintf("beside a console and %d browsers", browsers), start: func(ctx context.Context, dir string) (companion, error) {
		program, err := buildTool(ctx, dir)
		return &consoleBeside{command: []string{program, "--db", file(dir), "--json", "console", "--addr", "127.0.0.1:0"}, browsers: browsers}, err
	}}
}

// consoleBeside is a console and browsers.
type consoleBeside struct {
	command  []string
	browsers int
	leave    context.CancelFunc
	ended    chan error
	used     usage
}

func (c *consoleBeside) others() (usage, error) { return c.used, nil }

// begin implements companion.
func (c *consoleBeside) begin(ctx context.Context) {
	ctx, c.leave = context.WithCancel(ctx)
	c.ended = make(chan error, 1)
	go func() { c.ended <- c.serve(ctx) }()
}

// serve runs the console, with its browsers, until ctx ends.
func (c *consoleBeside) serve(ctx context.Context) error {
	command := interruptible(ctx, c.command)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	var at struct{ Serving string }
	err = json.NewDecoder(output).Decode(&at)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("the console did not say where it serves: %w", err)
	}
	ended := make(chan error, c.browsers)
	for range c.browsers {
		go func() { ended <- browse(ctx, at.Serving) }()
	}
	for range c.browsers {
		err = errors.Join(err, <-ended)
	}
	failed := command.Wait()
	c.used = c.used.plus(cpuOf(command))
	if ctx.Err() == nil {
		return errors.Join(err, failed)
	}
	return nil
}

// browse reads the overview's stream, as a browser does.
func browse(ctx context.Context, at string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"?live", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || kind != "text/event-stream" {
		return fmt.Errorf("the console answers %s, %s", response.Status, kind)
	}
	n, err := io.Copy(io.Discard, response.Body)
	if ctx.Err() != nil && n > 0 {
		return nil
	}
	return fmt.Errorf("the stream ended after %d bytes: %w", n, err)
}

// end implements companion.
func (c *consoleBeside) end() error {
	c.leave()
	return <-c.ended
}

// interruptible is a command that is interrupted when ctx ends.
func interruptible(ctx context.Context, command []string) *exec.Cmd {
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	return c
}

// cpuOf is what a command that has ended used.
func cpuOf(c *exec.Cmd) usage {
	return usage{CPU: c.ProcessState.UserTime() + c.ProcessState.SystemTime()}
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
