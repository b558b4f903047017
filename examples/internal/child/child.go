// Package child runs a test's own program as other processes, for tests that kill them.
//
// A child is told to end by the end of its input, so none outlives the test, however that ends.
package child

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Role is what a child does until ctx ends: a line of input ends it. It writes what the test waits for to out.
type Role func(ctx context.Context, args []string, out io.Writer) error

const roleVariable = "EXAMPLE_TEST_ROLE"

// Asked is the role that a test asked this process to play, "" in the test itself.
func Asked() string { return os.Getenv(roleVariable) }

// Main is what TestMain does: in a child it plays the role that the test asked for, elsewhere it runs the tests.
func Main(m *testing.M, roles map[string]Role) {
	name := Asked()
	if name == "" {
		os.Exit(m.Run())
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for input := bufio.NewScanner(os.Stdin); input.Scan(); {
			cancel()
		}
		os.Exit(1) // the test is gone
	}()
	if err := roles[name](ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Process is a child. Its lines are read until it ends, also those that it wrote right before it was killed.
type Process struct {
	t      testing.TB
	role   string
	cmd    *exec.Cmd
	input  io.WriteCloser
	errors bytes.Buffer

	first chan struct{} // closed with the first line
	ended chan struct{} // closed after the last line, with err

	mu    sync.Mutex // guards lines
	lines []string
	err   error
}

// Start starts a child, which is killed at the end of the test at the latest.
func Start(t testing.TB, role string, args ...string) *Process {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{t: t, role: role, cmd: exec.Command(program, args...), first: make(chan struct{}), ended: make(chan struct{})}
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
	t.Cleanup(p.Kill)
	return p
}

func (p *Process) read(output io.Reader) {
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

// Expect waits for the child's first line, and fails the test when it ends without one.
func (p *Process) Expect() string {
	p.t.Helper()
	select {
	case <-p.first:
	case <-p.ended:
	}
	lines := p.Lines()
	if len(lines) == 0 {
		p.t.Fatalf("a %s ended without a word: %v\n%s", p.role, p.err, &p.errors)
	}
	return lines[0]
}

// Lines is what the child has written.
func (p *Process) Lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines[:len(p.lines):len(p.lines)]
}

// Kill is kill -9. It returns when the process is gone and its output is read.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// Errors is what the child has written to standard error, once it has ended.
func (p *Process) Errors() string { return p.errors.String() }

// Ended is closed when the process is gone.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Finish tells the child to end, and fails the test when it does not, or ends with an error.
func (p *Process) Finish() {
	p.t.Helper()
	_, _ = io.WriteString(p.input, "\n") // it may have ended
	p.Wait()
}

// Interrupt is Ctrl-C, after which a program ends without an error.
func (p *Process) Interrupt() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Error(err)
	}
	p.Wait()
}

// Wait waits for the end of the child, and fails the test when it does not come, or comes with an error.
func (p *Process) Wait() {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.Kill()
		p.t.Fatalf("a %s did not end within %v\n%s", p.role, patience, &p.errors)
	}
	if p.err != nil {
		p.t.Errorf("a %s ended with %v\n%s", p.role, p.err, strings.TrimSpace(p.errors.String()))
	}
}

// patience is how long a child may take to end on a machine that is busy.
const patience = 2 * time.Minute

// Kills is how often a test kills: what the variable KILLS says, else n.
func Kills(t testing.TB, n int) int {
	t.Helper()
	text := os.Getenv("KILLS")
	if text == "" {
		return n
	}
	k, err := strconv.Atoi(text)
	if err != nil || k < 1 {
		t.Fatalf("KILLS=%q is no number of kills", text)
	}
	return k
}

// Random is a source of randomness. When the test fails it prints the seed, which the variable SEED sets.
func Random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SEED=%q is no number", text)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay: SEED=%d go test -count=1 -run '^%s$'", seed, t.Name())
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}
