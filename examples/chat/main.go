// Command chat is a chat room whose history never gets in the way: the cost of a line does not depend on how many there
// are already.
//
//	go run ./examples/chat               Ada and Bob say a hundred lines each in the room "lobby" of chat.db, at once
//	go run ./examples/chat -n 1000       the same, with more to say
//	go run ./examples/chat -read         prints the last lines
//	go run ./examples/chat -who eve      says each line of the input, and prints what anybody says
//
// Several of them may share one database, as in two terminals: -who eve and -who max. Each process also runs rooms, and
// any of them may be ended or killed; -consume=false leaves that to the others, and -serve does nothing else.
//
// Nobody asks the room again and again whether there is something new. Who has heard all asks for the next line, and the
// room keeps the question, with the address of who asked, until somebody says something.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/examples/internal/program"
	"github.com/dserver-go/dserver/statediff"
)

func main() {
	program.Main("chat", func(ctx context.Context, args []string, out io.Writer) error {
		return run(ctx, args, os.Stdin, out)
	})
}

// options are the flags.
type options struct {
	db, room, who        string
	n, last              int
	read, consume, serve bool
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("chat", flag.ContinueOnError)
	flags.StringVar(&o.db, "db", "chat.db", "the `database`: "+open.Usage)
	flags.StringVar(&o.room, "room", "lobby", "which room")
	flags.StringVar(&o.who, "who", "", "be somebody of this `name`, who says what the input says")
	flags.IntVar(&o.n, "n", 100, "how many lines Ada and Bob say, each")
	flags.IntVar(&o.last, "last", 10, "how many of the last lines are printed")
	flags.BoolVar(&o.read, "read", false, "print the last lines, and nothing else; it needs no process that runs rooms")
	flags.BoolVar(&o.consume, "consume", true, "run rooms in this process; false only sends")
	flags.BoolVar(&o.serve, "serve", false, "say nothing, and run rooms until interrupted")
	err := flags.Parse(args)
	return o, err
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	db, err := open.Database(o.db)
	if err != nil {
		return err
	}
	defer db.Close()
	room := Rooms.At(db, o.room)
	switch {
	case o.serve:
		fmt.Fprintln(out, "serving rooms of", o.db)
		return dserver.Run(ctx, db, Rooms)
	case o.read:
		_, err := o.showLast(ctx, room, out)
		return err
	}
	speak := func() error {
		if o.who != "" {
			return o.chat(ctx, room, in, out)
		}
		return o.talk(ctx, room, out)
	}
	if !o.consume {
		return speak()
	}
	return program.Consume(ctx, db, Rooms, speak)
}

// showLast prints the last lines and returns the place of the last one.
func (o options) showLast(ctx context.Context, room *dserver.DServer[Room], out io.Writer) (statediff.Place, error) {
	news, err := dserver.Query(ctx, room, Last{N: o.last})
	if err == nil {
		show(out, news.Lines)
	}
	return news.To, err
}

func show(out io.Writer, lines []Line) {
	for _, line := range lines {
		fmt.Fprintf(out, "%s: %s\n", line.Who, line.Text)
	}
}

// talk is Ada and Bob, who talk at the same time, and hear the same.
func (o options) talk(ctx context.Context, room *dserver.DServer[Room], out io.Writer) error {
	now, err := dserver.Query(ctx, room, Last{N: 1})
	if err != nil {
		return err
	}
	names := []string{"Ada", "Bob"}
	var heard [2][]Line
	var errs [2]error
	var both sync.WaitGroup
	for i, name := range names {
		both.Go(func() {
			p := &Person{Name: name, room: room, heard: now.To}
			heard[i], errs[i] = p.talk(ctx, o.n, names)
		})
	}
	both.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	n := min(len(heard[0]), len(heard[1])) // where others talk as well, one of them may have heard more
	if !slices.Equal(heard[0][:n], heard[1][:n]) {
		return errors.New("two people in one room heard different things")
	}
	if _, err := o.showLast(ctx, room, out); err != nil {
		return err
	}
	count, err := dserver.Query(ctx, room, Count{})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d lines were said, and both heard the same; %s has %d now\n", n, o.room, count)
	return nil
}

// talk says n lines, and listens until each of these names has said as many.
func (p *Person) talk(ctx context.Context, n int, names []string) (heard []Line, err error) {
	if err := p.Join(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var speaking sync.WaitGroup
	defer speaking.Wait()
	speaking.Go(func() {
		for i := range n {
			if _, err := p.Say(ctx, fmt.Sprint("line ", i+1)); err != nil {
				cancel(err) // it would be waited for in vain
				return
			}
		}
	})
	said := map[string]int{}
	silent := func(name string) bool { return said[name] < n }
	for slices.ContainsFunc(names, silent) {
		lines, err := p.Hear(ctx)
		if err != nil {
			cancel(err)
			return nil, context.Cause(ctx)
		}
		for _, line := range lines {
			said[line.Who]++
		}
		heard = append(heard, lines...)
	}
	return heard, nil
}

// chat is somebody at a terminal, until the input ends and all that it said was heard, or ctx ends.
func (o options) chat(ctx context.Context, room *dserver.DServer[Room], in io.Reader, out io.Writer) error {
	heard, err := o.showLast(ctx, room, out)
	if err != nil {
		return err
	}
	p := &Person{Name: o.who, room: room, heard: heard}
	if err := p.Join(ctx); err != nil {
		return err
	}
	listening, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		defer stop()
		ended <- p.listen(listening, out)
	}()
	said, err := p.sayAll(listening, in)
	stop()
	if deaf := <-ended; !errors.Is(deaf, context.Canceled) {
		err = errors.Join(err, deaf)
	}
	for p.heard < said && err == nil {
		err = p.listenOnce(ctx, out)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (p *Person) listen(ctx context.Context, out io.Writer) error {
	for {
		if err := p.listenOnce(ctx, out); err != nil {
			return err
		}
	}
}

func (p *Person) listenOnce(ctx context.Context, out io.Writer) error {
	lines, err := p.Hear(ctx)
	if err == nil {
		show(out, lines)
	}
	return err
}

// sayAll says each line of the input and returns the place of the last one. When ctx ends it leaves the rest.
func (p *Person) sayAll(ctx context.Context, in io.Reader) (last statediff.Place, err error) {
	lines := make(chan string)
	go func() { // a read of a terminal cannot be ended: that is left to the end of the process
		defer close(lines)
		for input := bufio.NewScanner(in); input.Scan(); {
			select {
			case lines <- input.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case line, more := <-lines:
			if !more {
				return last, nil
			}
			place, err := p.Say(ctx, line)
			if err != nil {
				return last, err
			}
			last = place
		case <-ctx.Done():
			return last, nil
		}
	}
}
