// Bench measures DServer on this machine's disk, beside what one would write by hand for the same work, in one run.
//
// A load is run by its subject, its baseline and others in turn, several rounds; the figures are medians, and the ratio
// is that of the same round. Every run ends in a count: what was acknowledged must be there, once.
//
//	go run ./bench                        all of it, some four minutes
//	go run ./bench -load 'call64|cast64'  the loads whose names match
//	go run ./bench -runs 9 -time 2s       more rounds, longer ones
//	go run ./bench -samples new.txt       each run as a line for benchstat: benchstat old.txt new.txt, or benchstat -col /by new.txt
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"time"
)

// options are the flags.
type options struct {
	runs   int
	length time.Duration
	only   *regexp.Regexp
	dir    string
	check  bool
	cpu    string // file for a CPU profile
	file   string // for each run of each load
	each   io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if role := os.Getenv(roleVariable); role != "" {
		exit(runChild(ctx, role, os.Args[1:]))
	}
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, o, os.Stdout)
	}
	exit(err)
}

func exit(err error) {
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	runs, length := 15, 300*time.Millisecond
	if onFDB() || onPG() { // a call takes longer there, and the first ones of a run read what is remembered for the others
		runs, length = 7, time.Second
	}
	flags.IntVar(&o.runs, "runs", runs, "rounds of each load")
	flags.DurationVar(&o.length, "time", length, "length of a run")
	only := flags.String("load", "", "regular expression: the names of the loads to run")
	flags.StringVar(&o.dir, "dir", ".", "where to make the databases: the disk that is measured")
	flags.BoolVar(&o.check, "check", false, "fail when a promise is broken")
	flags.StringVar(&o.file, "samples", "", "write each run of each load to the file, for benchstat")
	flags.StringVar(&o.cpu, "cpuprofile", "", "write a CPU profile of this process to the file")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("-load: %w", err)
	}
	if o.runs < 1 || flags.NArg() > 0 {
		return o, errors.New("-runs is at least 1, and there are no arguments beside the flags")
	}
	return o, nil
}

// section is a part of the run: it prints its figures and returns what was promised of them.
type section struct {
	name string
	run  func(ctx context.Context, dir string, o options, w io.Writer) ([]promise, error)
}

func run(ctx context.Context, o options, w io.Writer) (err error) {
	dir, err := os.MkdirTemp(o.dir, "bench-*.tmp")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := printMachine(w, dir, o); err != nil {
		return err
	}
	each, end, err := samplesFile(o.file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	o.each = each
	stop, err := startProfile(o.cpu)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	var promises []promise
	for _, s := range sections() {
		if !o.only.MatchString(s.name) {
			continue
		}
		kept, err := s.run(ctx, dir, o, w)
		if err != nil {
			return err
		}
		promises = append(promises, kept...)
	}
	if all := printPromises(w, promises); !all && o.check {
		return errors.New("a promise is broken")
	}
	return nil
}

// startProfile profiles this process into a file, if one is named, until stop.
func startProfile(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// section runs the load and prints it.
func (l load) section() section {
	return section{l.name, func(ctx context.Context, dir string, o options, w io.Writer) ([]promise, error) {
		samples, err := l.measure(ctx, dir, o.runs, o.length)
		if err != nil {
			return nil, err
		}
		entries := append([]entry{l.subject, l.baseline}, l.others...)
		rows := summarize(entries, samples, samples[1])
		l.print(w, rows)
		return l.promises(rows[0], rows[1]), l.writeSamples(o.each, entries, samples)
	}}
}

// printMachine says where the figures come from. A disk that syncs in no time does not sync.
func printMachine(w io.Writer, dir string, o options) error {
	sync, err := syncTime(dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s %s/%s, %d CPUs; a page written over and synced in %s ms; medians of %d runs of %v\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), millis(sync), o.runs, o.length)
	return nil
}

// syncTime is the median time that it takes to write a page over and sync it.
func syncTime(dir string) (time.Duration, error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var times histogram
	page := make([]byte, 4096)
	for i := range 101 {
		page[0] = byte(i)
		start := time.Now()
		if _, err := f.WriteAt(page, 0); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		times.record(time.Since(start))
	}
	return times.percentile(50), nil
}
