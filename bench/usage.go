package main

import (
	"bufio"
	"bytes"
	"os"
	"runtime"
	"strconv"
	"time"
)

// usage is what a process has used so far, or, as a difference, during a measurement.
type usage struct {
	CPU     time.Duration // user and system
	Written int64         // bytes that went to the disk, whole pages; 0 where the system does not tell
	Allocs  int64         // objects allocated by Go
}

// currentUsage is this process's.
func currentUsage() usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{CPU: cpuTime(), Written: procField("/proc/self/io", "write_bytes:"), Allocs: int64(m.Mallocs)}
}

func (u usage) minus(o usage) usage {
	return usage{u.CPU - o.CPU, u.Written - o.Written, u.Allocs - o.Allocs}
}

func (u usage) plus(o usage) usage {
	return usage{u.CPU + o.CPU, u.Written + o.Written, u.Allocs + o.Allocs}
}

// residentBytes is the memory that this process really occupies; 0 where the system does not tell.
func residentBytes() int64 { return procField("/proc/self/status", "VmRSS:") << 10 }

// procField returns the number that follows name in a file of /proc.
func procField(path, name string) int64 {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0 // not Linux: the column stays empty
	}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		fields := bytes.Fields(lines.Bytes())
		if len(fields) > 1 && string(fields[0]) == name {
			n, _ := strconv.ParseInt(string(fields[1]), 10, 64)
			return n
		}
	}
	return 0
}
