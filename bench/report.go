package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// promise is a figure that was promised, and what was measured.
type promise struct {
	what, want, got string
	kept            bool
}

// row is the medians of an entry's runs.
type row struct {
	entry    string
	rate     float64 // calls a second
	slowest  float64 // of the runs
	fastest  float64
	ratio    float64 // of the baseline in the same round of runs
	p50, p99 time.Duration
	allocs   float64 // each of these: per call
	cpu      time.Duration
	written  float64
}

// record is a line of the report for programs: one of its parts.
type record struct {
	Machine *machine `json:"machine,omitempty"`
	Load    string   `json:"load,omitempty"` // of the row
	Row     *row     `json:"row,omitempty"`
	Promise *promise `json:"promise,omitempty"`
}

// records is where they go, if anywhere.
type records struct{ to *json.Encoder }

func (r records) write(of record) error {
	if r.to == nil {
		return nil
	}
	return r.to.Encode(of)
}

// MarshalJSON gives the fields their units.
func (r row) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{
		"entry": r.entry, "calls_per_second": r.rate, "slowest": r.slowest, "fastest": r.fastest, "ratio": r.ratio,
		"p50_ns": r.p50, "p99_ns": r.p99, "allocs_per_call": r.allocs, "cpu_ns_per_call": r.cpu, "written_bytes_per_call": r.written,
	})
}

// MarshalJSON is for its fields, which are not exported.
func (p promise) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"what": p.what, "want": p.want, "got": p.got, "kept": p.kept})
}

// summarize reduces samples to rows. The ratio is the median of the rounds' ratios: a slow moment of the machine meets
// both sides of it.
func summarize(entries []entry, samples [][]sample, baseline []sample) []row {
	rows := make([]row, len(entries))
	for i, e := range entries {
		of := func(f func(s *sample) float64) float64 { return median(samples[i], f) }
		rates := make([]float64, len(samples[i]))
		ratios := make([]float64, len(samples[i]))
		for k := range samples[i] {
			rates[k] = samples[i][k].rate()
			ratios[k] = rates[k] / baseline[k].rate()
		}
		slices.Sort(ratios)
		rows[i] = row{
			entry:   e.name,
			rate:    of((*sample).rate),
			slowest: slices.Min(rates),
			fastest: slices.Max(rates),
			ratio:   ratios[len(ratios)/2],
			p50:     time.Duration(of(func(s *sample) float64 { return float64(s.times.percentile(50)) })),
			p99:     time.Duration(of(func(s *sample) float64 { return float64(s.times.percentile(99)) })),
			allocs:  of(func(s *sample) float64 { return float64(s.used.Allocs) / float64(s.ops) }),
			cpu:     time.Duration(of(func(s *sample) float64 { return float64(s.used.CPU) / float64(s.ops) })),
			written: of(func(s *sample) float64 { return float64(s.used.Written) / float64(s.ops) }),
		}
	}
	return rows
}

// median of a figure over runs; with an even number of them the higher of the two in the middle.
func median[T any](runs []T, figure func(run *T) float64) float64 {
	figures := make([]float64, len(runs))
	for i := range runs {
		figures[i] = figure(&runs[i])
	}
	slices.Sort(figures)
	return figures[len(figures)/2]
}

// promises are what the load asks of its subject.
func (l load) promises(subject, baseline row) []promise {
	var kept []promise
	if l.atLeast > 0 {
		kept = append(kept, promise{
			what: l.title,
			want: fmt.Sprintf("at least %.2f of %s", l.atLeast, l.baseline.short()),
			got:  fmt.Sprintf("%.2f", subject.ratio),
			kept: subject.ratio >= l.atLeast,
		})
	}
	if l.median > 0 {
		times := float64(subject.p50) / float64(max(1, baseline.p50))
		kept = append(kept, promise{
			what: l.title + ", p50",
			want: fmt.Sprintf("at most %.1f times %s", l.median, l.baseline.short()),
			got:  fmt.Sprintf("%.1f times", times),
			kept: times <= l.median,
		})
	}
	if l.evenTails {
		kept = append(kept, promise{
			what: l.title + ", tail",
			want: fmt.Sprintf("p99 at most %d times p50, or %d times what %s has", maxTail, maxTailShare, l.baseline.short()),
			got:  fmt.Sprintf("%.1f times; %s: %.1f", subject.tail(), l.baseline.short(), baseline.tail()),
			kept: subject.tail() <= max(maxTail, maxTailShare*baseline.tail()),
		})
	}
	return kept
}

// tail is how much slower than the median a call in a hundred was.
func (r row) tail() float64 { return float64(r.p99) / float64(max(1, r.p50)) }

// print writes a load's rows.
func (l load) print(w io.Writer, rows []row) {
	const layout = "  %-46s %12s %26s %9s %9s %9s %8s %8s %9s\n"
	fmt.Fprintf(w, "\n%s\n", l.title)
	fmt.Fprintf(w, layout, "", "calls/s", "slowest to fastest", "ratio", "p50 ms", "p99 ms", "allocs", "CPU us", "bytes")
	for _, r := range rows {
		fmt.Fprintf(w, layout, r.entry, thousands(r.rate), thousands(r.slowest)+" to "+thousands(r.fastest),
			fmt.Sprintf("%.2f", r.ratio), millis(r.p50), millis(r.p99),
			fmt.Sprintf("%.1f", r.allocs), fmt.Sprintf("%.1f", float64(r.cpu)/1e3), thousands(r.written))
	}
}

// printPromises writes the last table and reports whether all were kept.
func printPromises(w io.Writer, promises []promise) bool {
	fmt.Fprint(w, "\nPromised and measured\n")
	broken := 0
	for _, p := range promises {
		verdict := "pass"
		if !p.kept {
			verdict = "FAIL"
			broken++
		}
		fmt.Fprintf(w, "  %-56s %-30s %-24s %s\n", p.what, p.want, p.got, verdict)
	}
	return broken == 0
}

func millis(d time.Duration) string { return fmt.Sprintf("%.3f", float64(d)/1e6) }

// thousands writes a number with a comma between the thousands.
func thousands(f float64) string {
	digits := fmt.Sprintf("%.0f", f)
	var b strings.Builder
	for i, d := range digits {
		if left := len(digits) - i; i > 0 && left%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
