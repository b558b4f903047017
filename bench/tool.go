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

// withTool is the subject with a command of the admin tool beside it, in a process of its own, while it is measured. One that
// ends is run again after toolPause.
func withTool(args ...string) entry {
	return entry{"beside dserver " + strings.Join(args, " "), func(ctx context.Context, dir string, n int) (contender, error) {
		c, program, err := openWithTool(ctx, dir, n)
		if err != nil {
			return nil, err
		}
		return &toolBeside{servers: c, command: append([]string{program, "--db", file(dir)}, args...)}, nil
	}}
}

// openWithTool makes the tool, and then the subject.
func openWithTool(ctx context.Context, dir string, n int) (c *servers, program string, err error) {
	if program, err = buildTool(ctx, dir); err != nil {
		return nil, "", err
	}
	opened, err := openDurable(ctx, dir, n)
	if err != nil {
		return nil, "", err
	}
	return opened.(*servers), program, nil
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

func (w *toolBeside) others() (usage, error) { return w.used, nil } //nolint:unparam // other contenders have an error

// begin implements beside.
func (w *toolBeside) begin(ctx context.Context) {
	ctx, w.leave = context.WithCancel(ctx)
	w.ended = make(chan error, 1)
	go func() { w.ended <- w.runAgain(ctx) }()
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

// withBrowsers is the subject with a console, in a process of its own, whose overview so many browsers show while it is measured.
func withBrowsers(browsers int) entry {
	return entry{fmt.Sprintf("beside a console and %d browsers", browsers), func(ctx context.Context, dir string, n int) (contender, error) {
		c, program, err := openWithTool(ctx, dir, n)
		if err != nil {
			return nil, err
		}
		command := exec.CommandContext(ctx, program, "--db", file(dir), "--json", "console", "--addr", "127.0.0.1:0")
		command.Stderr = os.Stderr
		output, err := command.StdoutPipe()
		if err == nil {
			err = command.Start()
		}
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		beside := &consoleBeside{servers: c, console: command, browsers: browsers}
		var at struct{ Serving string }
		if err := json.NewDecoder(output).Decode(&at); err != nil {
			return nil, errors.Join(fmt.Errorf("the console did not say where it serves: %w", err), beside.close())
		}
		beside.at = at.Serving
		return beside, nil
	}}
}

// consoleBeside is servers with a console and browsers.
type consoleBeside struct {
	*servers
	console  *exec.Cmd
	at       string
	browsers int
	leave    context.CancelFunc
	ended    chan error
}

// begin implements beside.
func (c *consoleBeside) begin(ctx context.Context) {
	ctx, c.leave = context.WithCancel(ctx)
	c.ended = make(chan error, c.browsers)
	for range c.browsers {
		go func() { c.ended <- c.browse(ctx) }()
	}
}

// browse reads the overview's stream, as a browser does.
func (c *consoleBeside) browse(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.at+"?live", nil)
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

// end implements beside.
func (c *consoleBeside) end() (err error) {
	c.leave()
	for range c.browsers {
		err = errors.Join(err, <-c.ended)
	}
	return err
}

func (c *consoleBeside) close() error {
	err := c.console.Process.Signal(os.Interrupt)
	_ = c.console.Wait() // it was told to
	return errors.Join(err, c.servers.close())
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
