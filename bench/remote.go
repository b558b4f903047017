package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
)

// remote is the subject with its consumer in another process: calls go through the file, and so do their answers.
var remote = entry{name: "DServer on SQLite, consumer in another process", open: remoteOpener(1)}

// crowd is remote with several consumers, each in a process of its own.
func crowd(consumers int) entry {
	return entry{name: fmt.Sprintf("DServer on SQLite, %d consumers in other processes", consumers), open: remoteOpener(consumers)}
}

type remoteServers struct {
	servers
	children []*child
}

func remoteOpener(consumers int) func(context.Context, string, int) (contender, error) {
	return func(ctx context.Context, dir string, n int) (contender, error) {
		return openRemote(ctx, file(dir), n, consumers)
	}
}

// openRemote opens the database of this name, with consumers in so many processes.
func openRemote(ctx context.Context, name string, n, consumers int) (contender, error) {
	r := &remoteServers{}
	for range consumers {
		child, err := startChild(ctx, roleConsumer, name)
		if err != nil {
			return nil, errors.Join(err, r.end())
		}
		r.children = append(r.children, child)
	}
	db, err := open.Database(name)
	if err != nil {
		return nil, errors.Join(err, r.end())
	}
	r.servers = servers{db: db, handles: handles(counters, db, n)}
	return r, nil
}

func (r *remoteServers) others() (sum usage, err error) {
	for _, child := range r.children {
		u, err := child.use()
		if err != nil {
			return sum, err
		}
		sum = sum.plus(u)
	}
	return sum, nil
}

func (r *remoteServers) end() (err error) {
	for _, child := range r.children {
		err = errors.Join(err, child.end())
	}
	return err
}

func (r *remoteServers) close() error { return errors.Join(r.db.Close(), r.end()) }

// roleVariable in the environment makes this program its own child, and says what for.
const (
	roleVariable = "DSERVER_BENCH_ROLE"
	roleConsumer = "consumer"
	roleIdle     = "idle"
	roleTypes    = "types" // typesVariable says how many
	roleCold     = "cold"
	roleWaiting  = "waiting"

	roleForerunner = "forerunner"
)

// child is a process of this program. It answers each line that it is sent with one line of JSON, its usage, and ends
// when its input does.
type child struct {
	command *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Reader
}

func startChild(ctx context.Context, role, path string) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{command: exec.CommandContext(ctx, program, path)}
	c.command.Env = append(os.Environ(), roleVariable+"="+role)
	c.command.Stderr = os.Stderr
	if c.input, err = c.command.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := c.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.output = bufio.NewReader(output)
	if err := c.command.Start(); err != nil {
		return nil, err
	}
	_, err = c.use() // it has opened the database when it answers
	return c, err
}

// use asks the child what it has used.
func (c *child) use() (usage, error) {
	var u usage
	if _, err := io.WriteString(c.input, "\n"); err != nil {
		return u, fmt.Errorf("the child process is gone: %w", err)
	}
	line, err := c.output.ReadBytes('\n')
	if err != nil {
		return u, fmt.Errorf("the child process is gone: %w", err)
	}
	return u, json.Unmarshal(line, &u)
}

// kill ends it as a crash does.
func (c *child) kill() error {
	err := c.command.Process.Kill()
	_ = c.command.Wait() // it was killed; this closes its input
	return err
}

func (c *child) end() error { return errors.Join(c.input.Close(), c.command.Wait()) }

// runChild is the program when it is a child.
func runChild(ctx context.Context, role string, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("a %s needs the path of a database", role)
	}
	switch role {
	case roleForerunner:
		return beForerunner(ctx, args[0])
	case roleCold:
		return beCold(ctx, args[0])
	}
	db, err := open.Database(args[0])
	if err != nil {
		return err
	}
	defer db.Close()
	if count, is := isFollowers(role); is {
		return beFollowers(ctx, db, count)
	}
	switch role {
	case roleConsumer:
		return beConsumer(ctx, db)
	case roleIdle:
		return beIdle(ctx, db)
	case roleWaiting:
		return beWaiting(ctx, db)
	case roleTypes:
		return beOfTypes(ctx, db)
	}
	return fmt.Errorf("no child is called %q", role)
}

func beConsumer(ctx context.Context, db backend.Database) error {
	stop := consume(ctx, db, counters)
	lines, answers := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		if err := answers.Encode(currentUsage()); err != nil {
			return errors.Join(err, stop())
		}
	}
	return errors.Join(lines.Err(), stop())
}
