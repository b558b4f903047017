package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// The tests start processes of their own program. A child is told to finish by a line of input, and exits at once when
// its input ends, so none outlives the test, however that ends.
const (
	roleVariable = "COUNTER_TEST_ROLE"
	roleProgram  = "program" // the program, with flags
	roleAll      = "all"     // consumes and sends
	roleConsumer = "consumer"
	roleSender   = "sender"

	// roleDemonstration is the program, and its processes in turn, which read their input themselves.
	roleDemonstration = "demonstration"
)

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	if role == roleDemonstration {
		main()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		input := bufio.NewScanner(os.Stdin)
		for input.Scan() {
			cancel()
		}
		os.Exit(1) // the test is gone
	}()
	if role == roleProgram {
		main()
		return
	}
	if err := runChild(ctx, role, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, role, err)
		os.Exit(1)
	}
}

// process is a child. Its lines are read until it ends, also those that it wrote right before it was killed.
type process struct {
	t      testing.TB
	role   string
	cmd    *exec.Cmd
	input  io.WriteCloser
	errors bytes.Buffer

	first chan struct{} // closed with the first line
	ended chan struct{} // closed after the last line, with err

	mu    sync.Mutex
	lines []string
	err   error
}

func start(t testing.TB, role string, args ...string) *process {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, role: role, cmd: exec.Command(program, args...), first: make(chan struct{}), ended: make(chan struct{})}
	// The race detector would wait a second at the end of each process.
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role, "GORACE=atexit_sleep_ms=0")
	p.cmd.Stderr = &p.errors
	output, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(output)
	t.Cleanup(p.kill)
	return p
}

func (p *process) read(output io.Reader) {
	defer close(p.ended)
	for scanner := bufio.NewScanner(output); scanner.Scan(); {
		p.mu.Lock()
		p.lines = append(p.lines, scanner.Text())
		if len(p.lines) == 1 {
			close(p.first)
		}
		p.mu.Unlock()
	}
	p.err = p.cmd.Wait()
}

// expect waits for the first line.
func (p *process) expect(prefix string) {
	p.t.Helper()
	select {
	case <-p.first:
	case <-p.ended:
	}
	if lines := p.output(); len(lines) == 0 || !strings.HasPrefix(lines[0], prefix) {
		p.kill()
		p.t.Fatalf("a %s printed %q, not %q: %v\n%s", p.role, lines, prefix, p.err, &p.errors)
	}
}

func (p *process) output() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines[:len(p.lines):len(p.lines)]
}

// kill is kill -9. It returns when the process is gone and its output is read.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// interrupt is ctrl-C, after which the program ends without an error.
func (p *process) interrupt() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Error(err)
	}
	p.mustEnd()
}

// finish tells the child to finish what it has begun.
func (p *process) finish() {
	p.t.Helper()
	_, _ = io.WriteString(p.input, "\n") // it may have ended
	p.mustEnd()
}

// patience is how long a child may take to end, or a call to be answered, on a machine that is busy.
const patience = 2 * time.Minute

func (p *process) mustEnd() {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.kill()
		p.t.Fatalf("a %s did not end within %v\n%s", p.role, patience, &p.errors)
	}
	if p.err != nil {
		p.t.Fatalf("a %s ended with %v\n%s", p.role, p.err, &p.errors)
	}
}
