package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// machine is where figures come from, and how they were made.
type machine struct {
	Go        string            `json:"go"`
	System    string            `json:"system"` // with the architecture
	Processor string            `json:"processor,omitempty"`
	CPUs      int               `json:"cpus"`
	SyncMS    float64           `json:"sync_ms"` // a page written over and synced; a disk that syncs in no time does not sync
	Runs      int               `json:"runs"`
	Seconds   float64           `json:"seconds"` // of a run
	Stores    map[string]string `json:"stores"`  // the versions of their drivers
}

// drivers are the modules whose versions are told.
var drivers = []string{"zombiezen.com/go/sqlite", "modernc.org/sqlite", "github.com/apple/foundationdb/bindings/go", "github.com/jackc/pgx/v5"}

func machineOf(dir string, o options) (machine, error) {
	sync, err := syncTime(dir)
	m := machine{
		runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, processor(), runtime.NumCPU(),
		float64(sync) / float64(time.Millisecond), o.runs, o.length.Seconds(), map[string]string{},
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if slices.Contains(drivers, d.Path) {
				m.Stores[d.Path] = d.Version
			}
		}
	}
	return m, err
}

// processor is its name, where the system tells.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if field, name, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(field) == "model name" {
			return strings.TrimSpace(name)
		}
	}
	return ""
}

func (m machine) print(w io.Writer) {
	name := m.Processor
	if name != "" {
		name = ", " + name
	}
	fmt.Fprintf(w, "%s %s, %d CPUs%s; a page written over and synced in %.3f ms; medians of %d runs of %gs\n",
		m.Go, m.System, m.CPUs, name, m.SyncMS, m.Runs, m.Seconds)
	for _, d := range drivers {
		if version := m.Stores[d]; version != "" {
			fmt.Fprintln(w, " ", d, version)
		}
	}
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
