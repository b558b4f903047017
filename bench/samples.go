package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

// samplesFile is where each run of a load is written, a line in the format of Go's benchmarks for each, so that benchstat compares
// versions, and contenders with -col /by. Without a name nothing is written.
func samplesFile(name string) (w io.Writer, end func() error, err error) {
	if name == "" {
		return io.Discard, func() error { return nil }, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, nil, err
	}
	if _, err = fmt.Fprintf(f, "goos: %s\ngoarch: %s\ntoolchain: %s\n", runtime.GOOS, runtime.GOARCH, runtime.Version()); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, f.Close, nil
}

// writeSamples writes all runs of a load.
func (l load) writeSamples(w io.Writer, entries []entry, samples [][]sample) error {
	for i, e := range entries {
		name := fmt.Sprintf("BenchmarkLoad/load=%s/by=%s-%d", l.name, strings.ReplaceAll(e.name, " ", "_"), runtime.GOMAXPROCS(0))
		for k := range samples[i] {
			s := &samples[i][k]
			per := func(total float64) float64 { return total / float64(s.ops) }
			_, err := fmt.Fprintf(w, "%s %d %.0f ns/op %.1f calls/s %d p50-ns %d p99-ns %.0f cpu-ns/op %.1f allocs/op %.0f written-B/op\n",
				name, s.ops, per(float64(s.elapsed)), s.rate(), s.times.percentile(50), s.times.percentile(99),
				per(float64(s.used.CPU)), per(float64(s.used.Allocs)), per(float64(s.used.Written)))
			if err != nil {
				return err
			}
		}
	}
	return nil
}
