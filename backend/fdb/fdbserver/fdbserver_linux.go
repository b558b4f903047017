// Package fdbserver runs FoundationDB servers of tests' own, which may be killed. It knows no client, so that the tests of one
// may use it.
package fdbserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is an fdbserver with its own data. It is killed when its test ends.
type Server struct {
	t       testing.TB
	binary  string
	cli     string
	folder  string
	listen  string
	public  string
	process *os.Process
	ended   chan struct{}
}

// program finds one of FoundationDB's programs by its variable, in PATH or where its packages put it.
func program(t testing.TB, variable, name string) string {
	t.Helper()
	for _, candidate := range []string{os.Getenv(variable), name, "/usr/sbin/" + name, "/usr/local/libexec/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	missing := fmt.Sprintf("this test starts an fdbserver of its own, and there is no %s: set %s", name, variable)
	if os.Getenv("FDB") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// Find finds FoundationDB's programs. Without them the test is skipped and says so; with FDB=1 it fails. With -short it is
// skipped.
func Find(t testing.TB) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: it starts an fdbserver of its own")
	}
	return &Server{t: t, binary: program(t, "FDBSERVER", "fdbserver"), cli: program(t, "FDBCLI", "fdbcli"), folder: t.TempDir()}
}

// FreeAddress is an address of a host on which nobody listens.
func FreeAddress(t testing.TB, host string) string {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// Begin starts the server with an empty database. It listens at one address, and is known to its clients by another one,
// which may be that of a proxy, or the same.
func (s *Server) Begin(listen, public string) {
	s.t.Helper()
	s.listen, s.public = listen, public
	if err := os.WriteFile(s.Cluster(), []byte("test:test@"+public+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.Start()
	s.t.Cleanup(s.Kill)
	s.configure()
}

// Cluster is the server's cluster file.
func (s *Server) Cluster() string { return filepath.Join(s.folder, "fdb.cluster") }

// Start runs the process, anew after a Kill. The kernel kills it when the thread that started it ends, so that it does not
// outlive a test that was killed; hence a goroutine keeps that thread.
func (s *Server) Start() {
	started := make(chan error)
	s.ended = make(chan struct{})
	go func() {
		runtime.LockOSThread()
		cmd := exec.Command(s.binary, "-p", s.public, "-l", s.listen, "-C", s.Cluster(),
			"-d", s.folder, "-L", s.folder, "--memory", "2GiB", "--cache-memory", "100MiB")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err := cmd.Start()
		s.process = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed
		}
		close(s.ended)
	}()
	if err := <-started; err != nil {
		s.t.Fatal(err)
	}
}

// Kill ends the process at once, as a power cut of the machine would, but for what the kernel holds.
func (s *Server) Kill() {
	s.Thaw()
	_ = s.process.Kill()
	<-s.ended
}

// Freeze stops the process until Thaw.
func (s *Server) Freeze() { _ = s.process.Signal(syscall.SIGSTOP) }

// Thaw lets it go on.
func (s *Server) Thaw() { _ = s.process.Signal(syscall.SIGCONT) }

// configure makes the database.
func (s *Server) configure() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for {
		out, err := exec.CommandContext(ctx, s.cli, "-C", s.Cluster(), "--timeout", "10", "--exec",
			"configure new single ssd").CombinedOutput()
		if text := string(out); strings.Contains(text, "Database created") || strings.Contains(text, "already exists") {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatal(fmt.Errorf("configure the test's own server: %w: %s", err, out))
		case <-time.After(200 * time.Millisecond):
		}
	}
}
