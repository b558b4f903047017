package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// terminal opens a terminal of Linux: what is written to its end is read from the other one.
func terminal(t *testing.T) (other, end *os.File) {
	t.Helper()
	other, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("this system has no terminals: ", err)
	}
	t.Cleanup(func() { _ = other.Close() })
	var number, unlock uint32
	for request, arg := range map[uintptr]*uint32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, other.Fd(), request, uintptr(unsafe.Pointer(arg))); errno != 0 {
			t.Fatal(errno)
		}
	}
	end, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	must(t, err)
	return other, end
}

// atTerminal runs the tool before a terminal, and returns what stands there.
func atTerminal(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	other, end := terminal(t)
	program, err := os.Executable()
	must(t, err)
	run := exec.Command(program, append([]string{"--db", "app.db"}, args...)...)
	run.Dir = dir
	run.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"NO_COLOR", "PAGER", "DSERVER_PAGER", "LESS", "TERM"}, name)
	})
	run.Env = append(append(run.Env, "TZ=UTC", "GORACE=atexit_sleep_ms=0", "TERM=xterm", asTool+"=1"), env...)
	run.Stdin, run.Stdout, run.Stderr = end, end, end
	must(t, run.Start())
	must(t, end.Close())
	out, _ := io.ReadAll(other) // its error says that nobody writes any more
	_ = run.Wait()
	return strings.ReplaceAll(string(out), "\r\n", "\n")
}

// At a terminal what needs a person is red, and the columns stand as they do without; elsewhere, and where people say so, nothing is.
func TestWhatNeedsAPersonIsRedAtATerminal(t *testing.T) {
	dir, db := start(t)
	setAside(t, dir, db, "a")
	must(t, counters.At(db, "b").Call(t.Context(), add{By: 1}, nil))
	plainly := succeed(t, dir, "ls")
	if strings.Contains(plainly, "\x1b") {
		t.Errorf("elsewhere it is coloured: %q", plainly)
	}
	noPager := "DSERVER_PAGER=cat"
	for _, c := range []struct {
		env  []string
		args []string
		red  bool
	}{
		{nil, nil, true}, {[]string{"NO_COLOR=1"}, nil, false}, {[]string{"NO_COLOR="}, nil, true}, {[]string{"TERM=dumb"}, nil, false},
		{nil, []string{"--color=never"}, false}, {[]string{"NO_COLOR=1"}, []string{"--color=always"}, true},
	} {
		out := atTerminal(t, dir, append(c.env, noPager), append(c.args, "ls")...)
		if isRed := strings.Contains(out, red+"1"+usual); isRed != c.red {
			t.Errorf("%v %v: it printed %q", c.env, c.args, out)
		}
		if got := strings.NewReplacer(red, "", usual, "").Replace(out); got != plainly {
			t.Errorf("%v %v: it stands so: %s, and so elsewhere: %s", c.env, c.args, got, plainly)
		}
	}
	if out := succeed(t, dir, "--color=always", "ls"); !strings.Contains(out, red+"1"+usual) || strings.Contains(out, red+"0"+usual) {
		t.Errorf("always: %q", out)
	}
	for args, says := range map[string]string{"show counter/a": "it was refused: it is late", "dead --all": "it was refused: it is late", "status nobody/x": "there is nothing of nobody/x"} {
		if out := atTerminal(t, dir, []string{noPager}, strings.Fields(args)...); !strings.Contains(out, red+says) {
			t.Errorf("%s: it printed %q", args, out)
		}
	}
	if out := succeed(t, dir, "--color=always", "--json", "ls"); strings.Contains(out, "\x1b") {
		t.Errorf("JSON is coloured: %q", out)
	}
}

// At a terminal what is long goes through a pager, as people have chosen it; what goes on and on does not, nor what programs read.
func TestListsArePagedAtATerminal(t *testing.T) {
	dir, db := start(t)
	must(t, counters.At(db, "b").Call(t.Context(), add{By: 1}, nil))
	const marks = "PAGER=sed s/^/paged:/"
	for _, c := range []struct {
		env   []string
		args  string
		paged bool
	}{
		{[]string{marks}, "ls", true}, {[]string{marks}, "status counter/b", true}, {[]string{marks}, "state counter/b", true}, {[]string{marks}, "show counter/b", true},
		{[]string{marks, "DSERVER_PAGER="}, "ls", false}, {[]string{marks, "DSERVER_PAGER=cat"}, "ls", false}, {[]string{"PAGER=", "DSERVER_" + marks}, "ls", true},
		{[]string{marks, "TERM=dumb"}, "ls", false}, {[]string{marks}, "--json ls", false}, {[]string{marks}, "cast counter/b add", false},
		{[]string{marks}, "kill nobody/x --yes", false},
	} {
		out := atTerminal(t, dir, c.env, strings.Fields(c.args)...)
		if isPaged := strings.HasPrefix(out, "paged:"); isPaged != c.paged || out == "" {
			t.Errorf("%v %s: it printed %q", c.env, c.args, out)
		}
	}
	// A reader who has seen enough is no failure.
	out := atTerminal(t, dir, []string{"PAGER=head -n 1 >/dev/null; echo enough"}, "ls")
	if out != "enough\n" {
		t.Errorf("it printed %q", out)
	}
	if out := atTerminal(t, dir, []string{"PAGER=exit 3"}, "dead", "--all"); strings.Contains(out, "dserver:") {
		t.Errorf("without a reader: %q", out)
	}
	for line, is := range map[string]bool{
		"ls": true, "ls --watch 1s": false, "ls --json": false, "top": false, "tail counter": false, "state counter/b": true, "state counter/b --follow": false,
		"retry counter/b --all": false, "check": true, "repair": false, "audit": true, "man": false,
	} {
		var l commandLine
		command := parsed(t, &l, strings.Fields(line))
		if l.isPaged(command) != is {
			t.Errorf("%s is paged: %v", line, !is)
		}
	}
}
