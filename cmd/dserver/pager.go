package main

import (
	"cmp"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
)

// paged is the commands whose output may be long and is read by people, and that ask nothing.
var paged = map[string]bool{
	"ls": true, "stats": true, "status": true, "state show": true, "queue": true, "later": true, "dead": true, "timers": true, "locks": true,
	"show": true, "message": true, "audit": true, "consumers": true, "check": true,
}

// isPaged reports whether a command's output goes through a pager: never what goes on and on, nor what programs read.
func (l *commandLine) isPaged(command string) bool {
	words := strings.Fields(command)
	for i, word := range words { // without its arguments
		if strings.HasPrefix(word, "<") || strings.HasPrefix(word, "[") {
			words = words[:i]
			break
		}
	}
	return paged[strings.Join(words, " ")] && !l.JSON && l.Ls.Watch == 0 && !l.State.Show.Follow
}

// defaultPager ends by itself when all fits on the screen.
const defaultPager = "less -FRX"

// pagerOf is the command of the pager that people have chosen; "" is none.
func pagerOf() string {
	for _, name := range []string{"DSERVER_PAGER", "PAGER"} {
		if command, isSet := os.LookupEnv(name); isSet {
			if strings.TrimSpace(command) == "cat" {
				return ""
			}
			return strings.TrimSpace(command)
		}
	}
	if _, err := exec.LookPath("less"); err != nil {
		return ""
	}
	return defaultPager
}

// pager is a program through which output goes.
type pager struct {
	run  *exec.Cmd
	in   io.WriteCloser
	left bool // it ended before all was written: its reader has seen enough
}

// startPager starts it before a terminal. It is nil when there is none, or it cannot be started.
func startPager(w io.Writer) *pager {
	file, isFile := w.(*os.File)
	command := pagerOf()
	if !isFile || !isTerminal(file) || os.Getenv("TERM") == "dumb" || command == "" {
		return nil
	}
	p := &pager{run: exec.Command("sh", "-c", command)}
	p.run.Stdout, p.run.Stderr = file, os.Stderr
	p.run.Env = append(os.Environ(), "LESS="+cmp.Or(os.Getenv("LESS"), "FRX"))
	in, err := p.run.StdinPipe()
	if err != nil || p.run.Start() != nil {
		return nil
	}
	p.in = in
	return p
}

// errLeft ends a command whose reader has seen enough.
var errLeft = errors.New("the pager has ended")

// Write implements [io.Writer].
func (p *pager) Write(b []byte) (int, error) {
	n, err := p.in.Write(b)
	if err != nil {
		p.left, err = true, errLeft
	}
	return n, err
}

// end waits until the reader has seen enough. What the command said of a pager that has ended is no error.
func (p *pager) end(err error) error {
	if p.left && errors.Is(err, errLeft) {
		err = nil
	}
	_ = p.in.Close()
	_ = p.run.Wait() // what it says of itself stands on the terminal
	return err
}
