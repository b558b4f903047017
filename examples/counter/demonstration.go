package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/examples/internal/program"
)

// The demonstration: processes that count, one after the other, each killed in the middle of its work. At the end the
// count stands beside what was acknowledged to them.
const (
	lives        = 6
	shortestShow = 200 * time.Millisecond // after its first acknowledgement
	longestShow  = 800 * time.Millisecond
)

// demonstrate shows that the counter cannot be killed. It leaves nothing behind, unless it is told to keep the file.
func (o options) demonstrate(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "dserver-counter-")
	if err != nil {
		return err
	}
	if !o.keep {
		defer func() { _ = os.RemoveAll(dir) }() // a folder for temporary files: the system clears it
	}
	o.db = filepath.Join(dir, "counter.db")
	fmt.Fprintln(out, "Processes increment one counter, one after the other. Each is killed (kill -9) while it works:")
	fmt.Fprintln(out)
	acknowledged := int64(0)
	for i := range lives {
		isLast := i == lives-1
		p, err := o.live(ctx, acknowledged, !isLast)
		if err != nil {
			return err
		}
		how := "killed"
		if isLast {
			how = "ended by itself"
		}
		fmt.Fprintf(out, "  process %-8d acknowledged %6d to %-6d  %s\n", p.id, acknowledged+1, p.last, how)
		acknowledged = p.last
	}
	return o.compare(ctx, acknowledged, out)
}

// life is what is known of a process that has ended.
type life struct {
	id   int
	last int64 // increment that was acknowledged
}

// live lets a process count on, and ends it after a while.
func (o options) live(ctx context.Context, from int64, kill bool) (life, error) {
	program, err := os.Executable()
	if err != nil {
		return life{}, err
	}
	process := exec.CommandContext(ctx, program, "-db", o.db, "-id", o.id, "-from", strconv.FormatInt(from, 10))
	process.Stderr = os.Stderr
	input, err := process.StdinPipe() // the process ends when this one does, however that is
	if err != nil {
		return life{}, err
	}
	output, err := process.StdoutPipe()
	if err != nil {
		return life{}, err
	}
	if err := process.Start(); err != nil {
		return life{}, err
	}
	var killed atomic.Bool
	end := func() {
		if killed.Store(kill); kill {
			_ = process.Process.Kill()
		}
		_ = input.Close()
	}
	last, err := follow(output, end)
	if ctx.Err() != nil {
		_ = process.Wait()
		return life{}, errors.New("interrupted")
	}
	if ended := process.Wait(); ended != nil && !killed.Load() {
		err = errors.Join(err, ended)
	}
	if err == nil && last == 0 {
		err = errors.New("nothing was acknowledged")
	}
	return life{process.Process.Pid, last}, err
}

// follow reads what a process prints until that ends, and ends the process a while after its first line. It returns the
// number in the last line.
func follow(output io.Reader, end func()) (last int64, err error) {
	var timer *time.Timer
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if timer == nil {
			timer = time.AfterFunc(shortestShow+rand.N(longestShow-shortestShow), end)
			defer timer.Stop()
		}
		if last, err = strconv.ParseInt(lines.Text(), 10, 64); err != nil {
			return last, err
		}
	}
	return last, lines.Err()
}

// compare prints the counter's value beside the number of increments that were acknowledged. They are equal.
func (o options) compare(ctx context.Context, acknowledged int64, out io.Writer) error {
	db, err := open.Database(o.db)
	if err != nil {
		return err
	}
	defer db.Close()
	var n int64
	err = program.Consume(ctx, db, Counters, func() (err error) {
		n, err = dserver.Call(ctx, Counters.At(db, o.id), Value{})
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n  acknowledged  %6d\n  the counter   %6d", acknowledged, n)
	if n != acknowledged {
		return fmt.Errorf("%d increments were acknowledged, and the counter has %d", acknowledged, n)
	}
	fmt.Fprintln(out, "   nothing was lost, and nothing was counted twice")
	if o.keep {
		fmt.Fprintf(out, "\nThe file is kept: go run ./cmd/dserver --db %s ls\n", o.db)
	}
	return nil
}

// tally counts on from a number until its input ends, and prints each number once its increment is acknowledged. The
// number is its key as well: when a process was killed before it was told, the next one sends the same increment again,
// and it is counted once.
func (o options) tally(ctx context.Context, db backend.Database, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	counter := Counters.At(db, o.id)
	for n := o.from + 1; ctx.Err() == nil; n++ {
		key := strconv.FormatInt(n, 10)
		if err := counter.Cast(context.WithoutCancel(ctx), Increment{By: 1}, dserver.Once(key)); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, n); err != nil {
			return err
		}
	}
	return nil
}
