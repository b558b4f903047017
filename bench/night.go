package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// A night is the subject of one load alone, for as long as one likes: it tells whether anything drifts, as a log that grows, a
// store that gets slower with its age, or memory that does not come back.

// point is a piece of a night.
type point struct {
	at               time.Duration // its end, since the night began
	sample           sample
	store, log       int64 // bytes of the store's files, and of its log among them; 0 where they are elsewhere
	resident, inHeap int64 // of this process
}

var pointColumns = []string{
	"seconds", "calls_per_second", "p50_ms", "p99_ms", "longest_ms", "cpu_us_per_call", "written_bytes_per_call",
	"store_bytes", "log_bytes", "resident_bytes", "heap_bytes",
}

func (p *point) columns() []string {
	s := &p.sample
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	per := func(total float64) string { return number(float64(int64(total/float64(max(1, s.ops))*10)) / 10) }
	ms := func(percent float64) string {
		return number(float64(s.times.percentile(percent).Microseconds()) / 1000)
	}
	bytes := func(n int64) string { return strconv.FormatInt(n, 10) }
	return []string{
		number(float64(p.at.Milliseconds()) / 1000), number(float64(int64(s.rate()))), ms(50), ms(99), ms(100),
		per(float64(s.used.CPU) / 1000), per(float64(s.used.Written)), bytes(p.store), bytes(p.log), bytes(p.resident), bytes(p.inHeap),
	}
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
	if err := lines.Write(pointColumns); err != nil {
		return err
	}
	if _, err := r.run(ctx, o.length/4); err != nil { // to warm up
		return fmt.Errorf("%s: %w", l.name, err)
	}
	fmt.Fprintf(w, "\n%s, for %v\n", l.title, o.lasts)
	var all []point
	for began := time.Now(); time.Since(began) < o.lasts && ctx.Err() == nil; {
		s, err := r.run(ctx, o.length)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: after %v: %w", l.name, time.Since(began).Round(time.Second), err)
		}
		p := point{at: time.Since(began), sample: s, resident: residentBytes()}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		p.inHeap = int64(m.HeapAlloc)
		if p.store, p.log, err = storeBytes(r.dir); err != nil {
			return err
		}
		all = append(all, p)
		if err := lines.Write(p.columns()); err != nil {
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
func printNight(w io.Writer, all []point) {
	tenth := max(1, len(all)/10)
	if len(all) == 0 {
		return
	}
	first, last := all[:tenth], all[len(all)-tenth:]
	const layout = "  %-24s %14s %14s %8s\n"
	fmt.Fprintf(w, layout, "medians", "first tenth", "last tenth", "ratio")
	for _, line := range []struct {
		name   string
		format string
		of     func(p *point) float64
	}{
		{"calls/s", "%.0f", func(p *point) float64 { return p.sample.rate() }},
		{"p50 ms", "%.3f", func(p *point) float64 { return float64(p.sample.times.percentile(50)) / 1e6 }},
		{"p99 ms", "%.3f", func(p *point) float64 { return float64(p.sample.times.percentile(99)) / 1e6 }},
		{"longest ms", "%.1f", func(p *point) float64 { return float64(p.sample.times.percentile(100)) / 1e6 }},
		{"files MiB", "%.1f", func(p *point) float64 { return float64(p.store) / (1 << 20) }},
		{"log MiB", "%.1f", func(p *point) float64 { return float64(p.log) / (1 << 20) }},
		{"resident MiB", "%.1f", func(p *point) float64 { return float64(p.resident) / (1 << 20) }},
	} {
		a, b := median(first, line.of), median(last, line.of)
		if a == 0 && b == 0 {
			continue
		}
		fmt.Fprintf(w, layout, line.name, fmt.Sprintf(line.format, a), fmt.Sprintf(line.format, b), fmt.Sprintf("%.2f", b/a))
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
