//go:build fdb

package fdb

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

// server is an fdbserver of a test's own, on loopback, with its own data. Clients reach it through a proxy, because
// that is the address it tells them.
type server struct {
	t       testing.TB
	binary  string
	proxy   *proxy
	folder  string
	cluster string // the cluster file
	listen  string
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

// startServer starts a server with an empty database.
func startServer(t testing.TB) *server {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: it starts an fdbserver of its own")
	}
	binary, cli := program(t, "FDBSERVER", "fdbserver"), program(t, "FDBCLI", "fdbcli")
	folder := t.TempDir()
	listen := freeAddress(t)
	s := &server{t: t, binary: binary, proxy: newProxy(t, listen), folder: folder, listen: listen}
	s.cluster = filepath.Join(folder, "fdb.cluster")
	if err := os.WriteFile(s.cluster, []byte("test:test@"+s.proxy.address()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	t.Cleanup(s.kill)
	s.configure(cli)
	return s
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// start runs the process. The kernel kills it when the thread that started it ends, so that it does not outlive a test
// that was killed; hence a goroutine keeps that thread.
func (s *server) start() {
	started := make(chan error)
	s.ended = make(chan struct{})
	go func() {
		runtime.LockOSThread()
		cmd := exec.Command(s.binary, "-p", s.proxy.address(), "-l", s.listen, "-C", s.cluster,
			"-d", s.folder, "-L", s.folder, "--memory", "2GiB", "--cache-memory", "100MiB")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err := cmd.Start()
		s.process = cmd.Process
		started <- err
		if err == nil {
			cmd.Wait()
		}
		close(s.ended)
	}()
	if err := <-started; err != nil {
		s.t.Fatal(err)
	}
}

// kill ends the process at once, as a power cut of the machine would, but for what the kernel holds.
func (s *server) kill() {
	s.process.Signal(syscall.SIGCONT)
	s.process.Kill()
	<-s.ended
}

func (s *server) freeze() { s.process.Signal(syscall.SIGSTOP) }
func (s *server) thaw()   { s.process.Signal(syscall.SIGCONT) }

// configure makes the database.
func (s *server) configure(cli string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for {
		out, err := exec.CommandContext(ctx, cli, "-C", s.cluster, "--timeout", "10", "--exec",
			"configure new single ssd").CombinedOutput()
		if text := string(out); strings.Contains(text, "Database created") || strings.Contains(text, "already exists") {
			return
		}
		if idle(ctx, 200*time.Millisecond) != nil {
			s.t.Fatal(fmt.Errorf("configure the test's own server: %w: %s", err, out))
		}
	}
}
