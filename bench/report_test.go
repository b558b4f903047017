package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func runsOf(rates ...int64) []sample {
	samples := make([]sample, len(rates))
	for i, ops := range rates {
		samples[i] = sample{ops: ops, elapsed: time.Second, used: usage{Written: 100 * ops}}
		samples[i].times.record(time.Millisecond)
	}
	return samples
}

func TestTheRatioIsTheMedianOfTheRoundsRatios(t *testing.T) {
	subject, baseline := runsOf(50, 10, 60), runsOf(100, 10, 100) // the second round met a slow moment
	rows := summarize([]entry{{name: "subject"}}, [][]sample{subject}, baseline)
	if r := rows[0]; r.ratio != 0.6 || r.rate != 50 || r.slowest != 10 || r.fastest != 60 || r.written != 100 {
		t.Fatalf("%+v", r)
	}
}

func TestAPromiseIsBrokenBelowItsRatioAndAboveItsTail(t *testing.T) {
	l := load{title: "load", atLeast: 0.5, median: 2, evenTails: true}
	for _, c := range []struct {
		r                   row
		ratio, median, tail bool
	}{
		{row{ratio: 0.5, p50: 2e6, p99: 6e6}, true, true, true},
		{row{ratio: 0.49, p50: 2e6 + 1, p99: 6e6 + 4}, false, false, false},
	} {
		p := l.promises(c.r, row{p50: 1e6})
		if p[0].kept != c.ratio || p[1].kept != c.median || p[2].kept != c.tail {
			t.Errorf("%+v: %+v", c.r, p)
		}
		var out bytes.Buffer
		if all := printPromises(&out, p); all != (c.ratio && c.median && c.tail) || strings.Contains(out.String(), "FAIL") == all {
			t.Errorf("all kept is %v in\n%s", all, &out)
		}
	}
}

func TestEachRunIsALineForBenchstat(t *testing.T) {
	file := filepath.Join(t.TempDir(), "samples")
	w, end, err := samplesFile(file)
	if err != nil {
		t.Fatal(err)
	}
	l := load{name: "call64"}
	if err := l.writeSamples(w, []entry{{name: "DServer on SQLite"}, {name: "by hand"}}, [][]sample{runsOf(1000, 500), runsOf(250)}); err != nil {
		t.Fatal(err)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^Benchmark\S+/load=call64/by=(\S+)-\d+ (\d+) (\d+) ns/op (\S+) calls/s \d+ p50-ns \d+ p99-ns 0 cpu-ns/op 0\.0 allocs/op 100 written-B/op$`)
	var got []string
	for _, m := range line.FindAllStringSubmatch(string(text), -1) {
		got = append(got, strings.Join(m[1:], " "))
	}
	want := []string{"DServer_on_SQLite 1000 1000000 1000.0", "DServer_on_SQLite 500 2000000 500.0", "by_hand 250 4000000 250.0"}
	if !slices.Equal(got, want) {
		t.Errorf("%q in\n%s", got, text)
	}
	if w, end, err := samplesFile(""); err != nil || w != io.Discard || end() != nil {
		t.Errorf("without a name: %v, %v", w, err)
	}
}

func TestWithJSONThereAreRecordsAndNothingElse(t *testing.T) {
	o := command(t, "-json", "-load", "^call1$", "-runs", "1", "-time", "1ms", "-dir", t.TempDir())
	var out bytes.Buffer
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatal(err)
	}
	machines, rows, promises := 0, 0, 0
	for lines := json.NewDecoder(&out); lines.More(); {
		var r struct {
			Machine *machine
			Load    string
			Row     *struct {
				Entry string
				Rate  float64 `json:"calls_per_second"`
				P50   int64   `json:"p50_ns"`
			}
			Promise *struct {
				What, Want, Got string
				Kept            *bool
			}
		}
		if err := lines.Decode(&r); err != nil {
			t.Fatal(err)
		}
		switch {
		case r.Machine != nil:
			machines++
			if r.Machine.Go == "" || r.Machine.CPUs < 1 || r.Machine.Runs != 1 || r.Machine.Seconds != 0.001 {
				t.Errorf("%+v", r.Machine)
			}
		case r.Row != nil:
			rows++
			if r.Load != "call1" || r.Row.Entry == "" || r.Row.Rate <= 0 || r.Row.P50 <= 0 {
				t.Errorf("%s %+v", r.Load, r.Row)
			}
		case r.Promise != nil:
			promises++
			if r.Promise.What == "" || r.Promise.Want == "" || r.Promise.Got == "" || r.Promise.Kept == nil {
				t.Errorf("%+v", r.Promise)
			}
		}
	}
	if machines != 1 || rows < 2 || promises < 1 {
		t.Errorf("%d machines, %d rows, %d promises", machines, rows, promises)
	}
}

func TestThousandsAreGrouped(t *testing.T) {
	for f, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567.4: "1,234,567", -1000: "-1,000"} {
		if got := thousands(f); got != want {
			t.Errorf("%v is written %s, want %s", f, got, want)
		}
	}
}
