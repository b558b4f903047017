package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// A night is the subject of one load alone, for as long as one likes: it tells whether anything drifts, as a log that grows, a
// store that gets slower with its age, or memory that does not come back.

// column is what a night tells of each of its pieces.
type column struct {
	name string
	of   func(p *piece) float64
}

// piece is a piece of a night. What is kept of it is its columns: its histogram is larger than all of them by far, and would show
// as memory that does not come back.
type piece struct {
	at               time.Duration // its end, since the night began
	sample           sample
	store, log       int64 // bytes of the store's files, and of its log among them; 0 where they are elsewhere
	resident, inHeap int64 // of this process
}

func (p *piece) millis(percent float64) float64 {
	return float64(p.sample.times.percentile(percent).Microseconds()) / 1000
}

// per is an amount for each call, to a tenth.
func (p *piece) per(total float64) float64 {
	return math.Round(total/float64(max(1, p.sample.ops))*10) / 10
}

var columns = []column{
	{"seconds", func(p *piece) float64 { return float64(p.at.Milliseconds()) / 1000 }},
	{"calls_per_second", func(p *piece) float64 { return math.Round(p.sample.rate()) }},
	{"p50_ms", func(p *piece) float64 { return p.millis(50) }},
	{"p99_ms", func(p *piece) float64 { return p.millis(99) }},
	{"longest_ms", func(p *piece) float64 { return p.millis(100) }},
	{"cpu_us_per_call", func(p *piece) float64 { return p.per(float64(p.sample.used.CPU) / 1000) }},
	{"written_bytes_per_call", func(p *piece) float64 { return p.per(float64(p.sample.used.Written)) }},
	{"store_bytes", func(p *piece) float64 { return float64(p.store) }},
	{"log_bytes", func(p *piece) float64 { return float64(p.log) }},
	{"resident_bytes", func(p *piece) float64 { return float64(p.resident) }},
	{"heap_bytes", func(p *piece) float64 { return float64(p.inHeap) }},
}

// night runs the subject of l, and writes a line for each piece of it.
func night(ctx context.Context, l load, dir string, o options, w io.Writer) (err error) {
	r, err := l.open(ctx, dir, l.subject, nil)
	if err != nil {
		return fmt.Errorf("%s: open %s: %w", l.name, l.subject.name, err)
	}
	defer func() { err = errors.Join(err, r.close()) }()
	file, err := os.Create(o.night)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	lines := csv.NewWriter(file)
	var names []string
	for _, c := range columns {
		names = append(names, c.name)
	}
	if err := lines.Write(names); err != nil {
		return err
	}
	if _, err := r.run(ctx, o.length/4); err != nil { // to warm up
		return fmt.Errorf("%s: %w", l.name, err)
	}
	fmt.Fprintf(w, "\n%s, for %v\n", l.title, o.lasts)
	var all [][]float64
	for began := time.Now(); time.Since(began) < o.lasts && ctx.Err() == nil; {
		s, err := r.run(ctx, o.length)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: after %v: %w", l.name, time.Since(began).Round(time.Second), err)
		}
		p := piece{at: time.Since(began), sample: s, resident: residentBytes()}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		p.inHeap = int64(m.HeapAlloc)
		if p.store, p.log, err = storeBytes(r.dir); err != nil {
			return err
		}
		var values []float64
		var line []string
		for _, c := range columns {
			value := c.of(&p)
			values, line = append(values, value), append(line, strconv.FormatFloat(value, 'f', -1, 64))
		}
		all = append(all, values)
		if err := lines.Write(line); err != nil {
			return err
		}
		if lines.Flush(); lines.Error() != nil {
			return lines.Error()
		}
	}
	printNight(w, all)
	return nil
}

// storeBytes is how large the files are in a directory, and those of SQLite's log among them.
func storeBytes(dir string) (all, logs int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil // it is gone meanwhile
		}
		if all += info.Size(); strings.HasSuffix(path, "-wal") {
			logs += info.Size()
		}
		return nil
	})
	return all, logs, err
}

// printNight compares the last tenth with the first.
func printNight(w io.Writer, all [][]float64) {
	if len(all) == 0 {
		return
	}
	tenth := max(1, len(all)/10)
	const layout = "  %-24s %16s %16s %8s\n"
	fmt.Fprintf(w, layout, "medians", "first tenth", "last tenth", "ratio")
	for i, c := range columns[1:] {
		of := func(values *[]float64) float64 { return (*values)[i+1] }
		first, last := median(all[:tenth], of), median(all[len(all)-tenth:], of)
		if first == 0 {
			continue
		}
		number := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
		fmt.Fprintf(w, layout, c.name, number(first), number(last), fmt.Sprintf("%.2f", last/first))
	}
}

// findLoad is the one load that -load names.
func findLoad(o options) (load, error) {
	all := loads()
	switch {
	case onPG():
		all = loadsPG()
	case onFDB():
		all = loadsFDB()
	}
	var found []load
	for _, l := range all {
		if o.only.MatchString(l.name) {
			found = append(found, l)
		}
	}
	if len(found) != 1 {
		return load{}, fmt.Errorf("-night needs -load to name one load, and %q names %d", o.only, len(found))
	}
	return found[0], nil
}
