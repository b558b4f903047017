package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"sync"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// worker is another process of this program, which runs orders. Its input ends when this process does, and so does it.
type worker struct {
	command *exec.Cmd
	input   io.Closer
}

// startWorker returns when the worker has begun.
func startWorker(db, provider string) (*worker, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{command: exec.Command(program, "-db", db, "-worker", provider)}
	w.command.Stderr = os.Stderr
	if w.input, err = w.command.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := w.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.command.Start(); err != nil {
		return nil, err
	}
	if _, err := bufio.NewReader(output).ReadString('\n'); err != nil {
		w.kill()
		return nil, err
	}
	return w, nil
}

// kill is kill -9. It returns when the process is gone.
func (w *worker) kill() {
	_ = w.command.Process.Kill() // it may have ended
	_ = w.command.Wait()
}

// stop lets the worker finish what it has in hand.
func (w *worker) stop() error {
	_ = w.input.Close() // it may have ended
	return w.command.Wait()
}

// staff is the one worker at work.
type staff struct {
	db, provider string
	failed       context.CancelCauseFunc // tells that there is no worker any more

	mu sync.Mutex // guards at
	at *worker
}

func (s *staff) hire() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, err = startWorker(s.db, s.provider)
	return err
}

// crash kills the worker and puts another one in its place.
func (s *staff) crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at.kill()
	next, err := startWorker(s.db, s.provider)
	if err != nil {
		s.failed(err)
		return
	}
	s.at = next
}

// dismiss lets the worker finish.
func (s *staff) dismiss() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at.stop()
}

// work is what a worker does until its input ends.
func work(ctx context.Context, db backend.Database, provider string, in io.Reader, out io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer stop()
		_, _ = io.Copy(io.Discard, in) // an input that cannot be read has ended
	}()
	if _, err := io.WriteString(out, "running orders\n"); err != nil {
		return err
	}
	return dserver.Run(ctx, db, PaidThrough(Gateway{URL: provider}))
}
