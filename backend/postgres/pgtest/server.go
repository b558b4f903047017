//go:build unix

package pgtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Server is a PostgreSQL server of a test's own, which may be killed.
type Server struct {
	dir, bin string
	port     int
	settings []string
	shell    *exec.Cmd
	orders   io.WriteCloser
	answers  *bufio.Reader
}

// warden is the shell that has the server. It obeys orders from its standard input, and when that ends, as with the
// process that gives them, it stops the server and removes its folder.
const warden = `
dir=$1; bin=$2; pid=
while read -r order rest; do
	case $order in
	start) eval "exec $bin/postgres -D $dir/data $rest" >>"$dir/log" 2>&1 & pid=$!;;
	fast) kill -INT $pid; wait $pid;;
	immediate) kill -QUIT $pid; wait $pid;;
	kill) kill -KILL $pid; wait $pid;;
	*) eval "$order $rest" >>"$dir/log" 2>&1;;
	esac
	echo "done $pid"
done
[ -z "$pid" ] || { kill -QUIT $pid; wait $pid; }
rm -rf "$dir"
`

// binaries is the folder of the newest server that is installed.
func binaries() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		if path, err := exec.LookPath("postgres"); err == nil {
			return filepath.Dir(path), nil
		}
		return "", errors.New("no server is installed: neither /usr/lib/postgresql/*/bin/postgres nor postgres in PATH")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4])
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	return filepath.Dir(found[0]), nil
}

// begin makes the folder of a server, with an empty database: a copy of that of template, if there is one.
func begin(template *Server) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin}
	place := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		place = "/dev/shm" // tests have no power cut
	}
	if s.dir, err = os.MkdirTemp(place, "dserver-pg-"); err != nil {
		return nil, err
	}
	account, err := s.account()
	if err == nil {
		err = s.guard(account)
	}
	if err == nil {
		s.port, err = freePort()
	}
	if err == nil {
		err = s.initialise(template)
	}
	if err != nil {
		s.End()
		return nil, err
	}
	return s, nil
}

// account is whom the server runs as, which may not be root. The folder is given to it.
func (s *Server) account() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(s.dir, uid, gid)
}

func (s *Server) guard(account *syscall.Credential) error {
	s.shell = exec.Command("/bin/sh", "-c", warden, "sh", s.dir, s.bin)
	s.shell.Dir = s.dir
	s.shell.SysProcAttr = &syscall.SysProcAttr{Credential: account, Setpgid: true}
	orders, err := s.shell.StdinPipe()
	if err != nil {
		return err
	}
	answers, err := s.shell.StdoutPipe()
	if err != nil {
		return err
	}
	s.orders, s.answers = orders, bufio.NewReader(answers)
	return s.shell.Start()
}

// order has the warden do something, and returns the server's process id.
func (s *Server) order(words string) (pid int, err error) {
	if _, err := fmt.Fprintln(s.orders, words); err != nil {
		return 0, err
	}
	answer, err := s.answers.ReadString('\n')
	pid, _ = strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(answer, "done")))
	return pid, err
}

// initialise makes the database, which takes a second or two. The first of a process keeps a copy for the others.
func (s *Server) initialise(template *Server) error {
	var err error
	if template != nil {
		_, err = s.order("cp -R " + template.dir + "/template " + s.Data())
	} else {
		_, err = s.order(s.bin + "/initdb -D " + s.Data() +
			" -U dserver -A trust -E UTF8 --locale=C --no-sync --no-instructions && cp -R " + s.Data() + " " + s.dir + "/template")
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(s.Data() + "/PG_VERSION"); err != nil {
		return fmt.Errorf("initdb: %s", s.Log())
	}
	return nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Start starts the server and waits until it answers. One that was killed may still have processes, for which it is started
// again.
func (s *Server) Start() error {
	words := fmt.Sprintf("start -p %d -h 127.0.0.1 -k %s -c max_connections=300 -c shared_buffers=64MB", s.port, s.dir)
	for _, setting := range s.settings {
		words += " -c '" + setting + "'"
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		pid, err := s.order(words)
		if err != nil {
			return err
		}
		for isAlive(pid) {
			if err = s.answer(ctx); err == nil {
				return nil
			}
			if ctx.Err() != nil {
				return fmt.Errorf("the server does not answer: %w: %s", err, s.Log())
			}
			<-time.After(10 * time.Millisecond)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the server does not start: %s", s.Log())
		}
	}
}

func (s *Server) answer(ctx context.Context) error {
	c, err := pgconn.Connect(ctx, s.URL())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(ctx) }() // it was asked
	return c.Exec(ctx, "SELECT 1").Close()
}

// isAlive reports whether a process runs. One that has ended is the warden's to wait for, and then it is a zombie.
func isAlive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// Stop stops the server: "fast", "immediate" (as a crash, without a last checkpoint) or "kill" (SIGKILL).
func (s *Server) Stop(how string) error {
	_, err := s.order(how)
	return err
}

// Do has a program of the server's do something to a folder of its own, such as pg_basebackup.
func (s *Server) Do(program, arguments string) error {
	_, err := s.order(s.bin + "/" + program + " " + arguments)
	return err
}

// Clone is another server in a folder of its own, which holds what this one does, and follows it if it is to be a standby
// of this name.
func (s *Server) Clone(standby string) (*Server, error) {
	template, err := shared()
	if err != nil {
		return nil, err
	}
	other, err := begin(template)
	if err != nil {
		return nil, err
	}
	data := other.Data()
	if _, err := other.order("rm -rf " + data); err != nil {
		return nil, err
	}
	source := fmt.Sprintf("host=127.0.0.1 port=%d user=dserver application_name=%s", s.port, standby)
	if err := other.Do("pg_basebackup", "-D "+data+" -R -c fast -X stream -d "+"'"+source+"'"); err != nil {
		return nil, err
	}
	return other, nil
}

// Port is where the server listens on 127.0.0.1.
func (s *Server) Port() int { return s.port }

// Data is the server's folder.
func (s *Server) Data() string { return s.dir + "/data" }

// URL is the server's database.
func (s *Server) URL() string { return fmt.Sprintf("postgres://dserver@127.0.0.1:%d/postgres", s.port) }

// Log is the end of what the server has logged.
func (s *Server) Log() string {
	const last = 2000
	b, _ := os.ReadFile(s.dir + "/log")
	return string(b[max(0, len(b)-last):])
}

// End stops the server and removes its folder.
func (s *Server) End() {
	if s.orders != nil {
		_ = s.orders.Close()
		_ = s.shell.Wait()
	}
	_ = os.RemoveAll(s.dir)
}
