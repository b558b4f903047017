package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Casts beside jobs of River on the same server. River is in a module of its own (bench/river), which go run builds; its
// jobs do nothing, while each cast is a turn that changes a state.
const (
	jobsOfRiver  = 5_000
	castsBeside  = 50_000
	castsPerJobs = 30 // what is promised
)

// jobs is one round of both in turn, several times.
type jobs struct{ river, casts float64 }

func besideRiver(ctx context.Context, dir string, o options, w io.Writer) ([]promise, error) {
	fmt.Fprintf(w, "\n%d senders cast to 1 server, until all are handled, beside River: messages/s, jobs/s\n", senders)
	rounds := make([]jobs, o.runs)
	for i := range rounds {
		own, err := os.MkdirTemp(dir, "river")
		if err != nil {
			return nil, err
		}
		if rounds[i].river, err = runRiver(ctx, own); err != nil {
			return nil, err
		}
		if rounds[i].casts, err = runCasts(ctx, own); err != nil {
			return nil, err
		}
	}
	casts := median(rounds, func(j *jobs) float64 { return j.casts })
	river := median(rounds, func(j *jobs) float64 { return j.river })
	ratio := median(rounds, func(j *jobs) float64 { return j.casts / j.river })
	fmt.Fprintf(w, "  DServer %.0f, River %.0f, ratio %.1f\n", casts, river, ratio)
	return []promise{{
		what: "64 senders cast to 1 server, beside River", want: fmt.Sprintf("at least %d of River's jobs/s", castsPerJobs),
		got: fmt.Sprintf("%.1f", ratio), kept: ratio >= castsPerJobs,
	}}, nil
}

func runCasts(ctx context.Context, dir string) (rate float64, err error) {
	c, err := openDurablePG(ctx, dir, 1)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.increment(ctx, 0); err != nil {
		return 0, err
	}
	return sendPart(ctx, c, castsBeside)
}

// runRiver returns how many jobs a second River worked off.
func runRiver(ctx context.Context, dir string) (float64, error) {
	_, file, _, _ := runtime.Caller(0)
	command := exec.CommandContext(ctx, "go", "run", ".", os.Getenv("PGTEST_URL"), schemaOf(dir)+"_river",
		strconv.Itoa(senders), strconv.Itoa(jobsOfRiver))
	command.Dir = filepath.Join(filepath.Dir(file), "river")
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return 0, fmt.Errorf("run River in %s: %w", command.Dir, err)
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}
