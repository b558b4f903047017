// Bench measures DServer on this machine's disk, beside what one would write by hand for the same work, in one run.
//
// A load is run by its subject, its baseline and others in turn, several rounds; the figures are medians, and the ratio
// is that of the same round. Every run ends in a count: what was acknowledged must be there, once.
//
//	go run ./bench                        all of it, some four minutes
//	go run ./bench -load 'call64|cast64'  the loads whose names match
//	go run ./bench -runs 9 -time 2s       more rounds, longer ones
//	go run ./bench -json                  for programs
//	go run ./bench -samples new.txt       each run as a line for benchstat: benchstat old.txt new.txt, or benchstat -col /by new.txt
//	go run ./bench -load '^call64$' -night night.csv -for 8h
//	                                      one load for a night, a line each ten seconds; bench/plot draws it
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
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
	json   bool
	night  string // for the pieces of a night
	lasts  time.Duration

	records records
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
	flags.BoolVar(&o.json, "json", false, "print JSON in place of tables, an object a line: the machine, the rows of loads, and what was promised and measured")
	flags.StringVar(&o.cpu, "cpuprofile", "", "write a CPU profile of this process to the file")
	flags.StringVar(&o.night, "night", "", "run the one load of -load alone for the time of -for, and write a line of CSV to the file for each piece of -time, 10s if that is not given")
	flags.DurationVar(&o.lasts, "for", 8*time.Hour, "how long -night lasts")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.night != "" && !isGiven(flags, "time") {
		o.length = 10 * time.Second
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

func isGiven(flags *flag.FlagSet, name string) (is bool) {
	flags.Visit(func(f *flag.Flag) { is = is || f.Name == name })
	return is
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
	m, err := machineOf(dir, o)
	if err != nil {
		return err
	}
	if o.json {
		o.records, w = records{json.NewEncoder(w)}, io.Discard
	}
	m.print(w)
	if err := o.records.write(record{Machine: &m}); err != nil {
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
	if o.night != "" {
		l, err := findLoad(o)
		if err != nil {
			return err
		}
		return night(ctx, l, dir, o, w)
	}
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
	all := printPromises(w, promises)
	for _, p := range promises {
		if err := o.records.write(record{Promise: &p}); err != nil {
			return err
		}
	}
	if !all && o.check {
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
		for _, r := range rows {
			if err := o.records.write(record{Load: l.name, Row: &r}); err != nil {
				return nil, err
			}
		}
		return l.promises(rows[0], rows[1]), l.writeSamples(o.each, entries, samples)
	}}
}
