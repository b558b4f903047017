// Command booth sells the tickets of a show from several processes at once, and never one too many.
//
//	go run ./examples/booth                                    3 processes, 120 buyers, 100 seats, one file: booth.db
//	go run ./examples/booth -processes 5 -buyers 1000 -seats 10
//
// Each process sells and buys: all of them run consumers for the same booth, and none of them owns it.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/examples/internal/program"
)

func main() { program.Main("booth", run) }

type options struct {
	db, show, branch         string
	processes, buyers, seats int
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("booth", flag.ContinueOnError)
	flags.StringVar(&o.db, "db", "booth.db", "the `database`: "+open.Usage)
	flags.StringVar(&o.show, "show", "show of "+time.Now().Format("2006-01-02 15:04:05"), "which show")
	flags.IntVar(&o.processes, "processes", 3, "how many processes sell")
	flags.IntVar(&o.buyers, "buyers", 120, "how many buyers come, to all processes together")
	flags.IntVar(&o.seats, "seats", 100, "how many seats the show has")
	flags.StringVar(&o.branch, "branch", "", "be one of these processes, with this `name`")
	err := flags.Parse(args)
	return o, err
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	db, err := open.Database(o.db)
	if err != nil {
		return err
	}
	defer db.Close()
	if o.branch != "" {
		return program.Consume(ctx, db, Booths, func() error { return o.sell(ctx, db, out) })
	}
	if err := Booths.At(db, o.show).Cast(ctx, Open{o.seats}); err != nil { // no booth runs yet: it is stored
		return err
	}
	tickets, err := o.startBranches(ctx)
	if err != nil {
		return err
	}
	return o.report(ctx, db, tickets, out)
}

// sell is what a process does that runs booths: its buyers come all at once.
func (o options) sell(ctx context.Context, db backend.Database, out io.Writer) error {
	booth := Booths.At(db, o.show)
	var buyers sync.WaitGroup
	lines := make(chan string, o.buyers)
	for i := range o.buyers {
		buyers.Go(func() {
			who := fmt.Sprintf("%s-%d", o.branch, i)
			switch seat, err := dserver.Call(ctx, booth, Buy{Who: who}); {
			case err == nil:
				lines <- fmt.Sprintf("%s seat %d", who, seat)
			case errors.Is(err, ErrSoldOut):
				lines <- who + " sold out"
			default:
				lines <- fmt.Sprintf("%s error %v", who, err)
			}
		})
	}
	buyers.Wait()
	close(lines)
	for line := range lines {
		fmt.Fprintln(out, line)
	}
	return nil
}

// startBranches starts this program again, several times, and returns what their buyers got: a line each.
func (o options) startBranches(ctx context.Context) ([]string, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var all []string
	var branches []*exec.Cmd
	var outputs []io.Reader
	for i := range o.processes {
		buyers := o.buyers/o.processes + min(1, max(0, o.buyers%o.processes-i))
		branch := exec.CommandContext(ctx, program, "-db", o.db, "-show", o.show,
			"-buyers", strconv.Itoa(buyers), "-branch", "branch"+strconv.Itoa(i))
		branch.Stderr = os.Stderr
		output, err := branch.StdoutPipe()
		if err == nil {
			err = branch.Start()
		}
		if err != nil {
			return nil, err
		}
		branches, outputs = append(branches, branch), append(outputs, output)
	}
	for i, branch := range branches {
		for lines := bufio.NewScanner(outputs[i]); lines.Scan(); {
			all = append(all, lines.Text())
		}
		err = errors.Join(err, branch.Wait())
	}
	return all, err
}

// report compares what the buyers got with what the booth says.
func (o options) report(ctx context.Context, db backend.Database, tickets []string, out io.Writer) error {
	booth, err := Booths.At(db, o.show).State(ctx)
	if err != nil {
		return err
	}
	sold, soldOut := 0, 0
	for _, line := range tickets {
		who, what, _ := strings.Cut(line, " ")
		switch seat, err := strconv.Atoi(strings.TrimPrefix(what, "seat ")); {
		case what == "sold out":
			soldOut++
		case err != nil || booth.Sold[seat] != who:
			return fmt.Errorf("%s has %q, and the booth says %q", who, what, booth.Sold[seat])
		default:
			sold++
		}
	}
	fmt.Fprintf(out, "%s: %d processes sold %d of %d seats, %d buyers found it sold out\n",
		o.show, o.processes, sold, booth.Seats, soldOut)
	if sold != len(booth.Sold) || sold > booth.Seats {
		return fmt.Errorf("%d tickets, %d seats taken of %d", sold, len(booth.Sold), booth.Seats)
	}
	return nil
}
