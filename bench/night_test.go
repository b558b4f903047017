package main

import (
	"bytes"
	"encoding/csv"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A night writes a line for each piece, and compares its end with its beginning.
func TestNight(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "night.csv")
	o := command(t, "-load", "^call64$", "-night", path, "-for", "100ms", "-time", "20ms", "-dir", dir)
	var out bytes.Buffer
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatal(err)
	}
	columns := []string{"seconds", "calls_per_second", "p50_ms", "heap_bytes"}
	if !onPG() && !onFDB() { // whose files are the server's
		columns = append(columns, "store_bytes", "log_bytes")
	}
	for _, want := range columns[1:] {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not tell %s:\n%s", want, &out)
		}
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	if err != nil || len(lines) < 2 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	at := func(line []string, column string) float64 {
		for i, name := range lines[0] {
			if name == column {
				value, err := strconv.ParseFloat(line[i], 64)
				if err != nil {
					t.Error(err)
				}
				return value
			}
		}
		t.Fatalf("no column %s", column)
		return 0
	}
	for _, line := range lines[1:] {
		for _, column := range columns {
			if at(line, column) <= 0 {
				t.Errorf("%s is %v in %v", column, at(line, column), line)
			}
		}
		if at(line, "p50_ms") > at(line, "p99_ms") || at(line, "p99_ms") > at(line, "longest_ms") || at(line, "log_bytes") > at(line, "store_bytes") {
			t.Errorf("%v cannot be", line)
		}
	}
}

// It needs one load, and says so.
func TestNightNeedsOneLoad(t *testing.T) {
	for _, only := range []string{"call", "none"} {
		o := command(t, "-load", only, "-night", filepath.Join(t.TempDir(), "night.csv"), "-dir", t.TempDir())
		if err := run(t.Context(), o, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "-load to name one load") {
			t.Errorf("%q: %v", only, err)
		}
	}
}
