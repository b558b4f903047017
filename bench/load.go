package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// load is a way to use counters, and who is measured by it.
type load struct {
	name     string
	title    string
	callers  int
	counters int
	casts    bool // cast, and end when all are handled

	subject   entry
	baseline  entry   // what the subject is held against
	atLeast   float64 // of the baseline's rate; 0 promises nothing of it
	median    float64 // p50 is to be at most so many times the baseline's; 0 promises nothing of it
	evenTails bool    // p99 is to be at most maxTail times p50
	others    []entry // for scale
}

// maxTail is how much slower than the median a caller in a hundred may be, and maxTailShare how many times what the baseline has of
// that, on a machine where it is more for everybody.
const (
	maxTail      = 3
	maxTailShare = 2
)

// sample is one run of a load.
type sample struct {
	ops     int64
	elapsed time.Duration
	used    usage
	times   histogram
}

func (s *sample) rate() float64 { return float64(s.ops) / s.elapsed.Seconds() }

// runner is a contender in the middle of a load.
type runner struct {
	load
	contender
	dir    string
	beside companion // or nil
	added  *int64    // so far, to be found in the counters
}

// measure runs the load's entries in turn, in another order each round, so that whatever else the machine does meets all of them,
// and returns the samples of each. Files stay from run to run: a log that is written again is faster than one that grows.
func (l load) measure(
	ctx context.Context, dir string, runs int, length time.Duration,
) (samples [][]sample, err error) {
	entries := append([]entry{l.subject, l.baseline}, l.others...)
	samples = make([][]sample, len(entries))
	runners := make([]*runner, len(entries))
	for i, e := range entries {
		r, failed := l.open(ctx, dir, e, runners[0])
		if failed != nil {
			return nil, fmt.Errorf("%s: open %s: %w", l.name, e.name, failed)
		}
		if e.open != nil {
			defer func() { err = errors.Join(err, r.close()) }()
		}
		if _, err := r.run(ctx, length/4); err != nil { // to warm up
			return nil, fmt.Errorf("%s: %s: %w", l.name, e.name, err)
		}
		runners[i] = r
	}
	for range runs {
		for _, i := range rand.Perm(len(runners)) { // who comes after whom matters to a disk
			s, err := runners[i].run(ctx, length)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", l.name, entries[i].name, err)
			}
			samples[i] = append(samples[i], s)
		}
	}
	return samples, nil
}

// open makes an entry's counters, or takes the subject's.
func (l load) open(ctx context.Context, dir string, e entry, subject *runner) (r *runner, err error) {
	if e.open == nil {
		r = &runner{load: l, contender: subject.contender, dir: subject.dir, added: subject.added}
		if e.start != nil {
			r.beside, err = e.start(ctx, r.dir)
		}
		return r, err
	}
	r = &runner{load: l, added: new(int64)}
	if r.dir, err = os.MkdirTemp(dir, l.name); err == nil {
		r.contender, err = e.open(ctx, r.dir, l.counters)
	}
	return r, err
}

// use is what all processes of the contender have used so far.
func (r *runner) use() (usage, error) {
	all := currentUsage()
	for _, part := range []any{r.contender, r.beside} {
		if s, ok := part.(spread); ok {
			others, err := s.others()
			if err != nil {
				return all, err
			}
			all = all.plus(others)
		}
	}
	return all, nil
}

// run loads the contender for a while, and checks that it lost and doubled nothing.
func (r *runner) run(ctx context.Context, length time.Duration) (sample, error) {
	before, err := r.use()
	if err != nil {
		return sample{}, err
	}
	if r.beside != nil {
		r.beside.begin(ctx)
	}
	start := time.Now()
	s, err := r.callAll(ctx, start.Add(length))
	s.elapsed = time.Since(start)
	if r.beside != nil {
		err = errors.Join(err, r.beside.end())
	}
	if err != nil {
		return s, err
	}
	if r.casts {
		if err := r.check(ctx); err != nil { // waits until all are handled
			return s, err
		}
		s.elapsed = time.Since(start)
	}
	after, err := r.use()
	s.used = after.minus(before)
	return s, errors.Join(err, r.check(ctx))
}

// callAll lets all callers call until the deadline.
func (r *runner) callAll(ctx context.Context, deadline time.Time) (sample, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		s      sample
		mu     sync.Mutex // guards s
		ended  sync.WaitGroup
		failed atomic.Bool
	)
	for range r.callers {
		ended.Go(func() {
			var times histogram
			if err := r.call(ctx, deadline, &times); err != nil && !failed.Swap(true) {
				cancel(err)
			}
			mu.Lock()
			defer mu.Unlock()
			s.times.add(&times)
		})
	}
	ended.Wait()
	s.ops = s.times.total
	*r.added += s.ops
	if failed.Load() {
		return s, context.Cause(ctx)
	}
	return s, nil
}

// call is one caller: the next call begins when the one before has returned. Calls have a context that does not end, as
// in the README's program.
func (r *runner) call(ctx context.Context, deadline time.Time, times *histogram) error {
	do := r.increment
	if r.casts {
		do = r.cast
	}
	endless := context.WithoutCancel(ctx)
	now := time.Now()
	for first := true; (first || now.Before(deadline)) && ctx.Err() == nil; first = false { // once at least
		if err := do(endless, rand.IntN(r.counters)); err != nil {
			return err
		}
		then := now
		now = time.Now()
		times.record(now.Sub(then))
	}
	return nil
}

// check compares the counters with what was acknowledged.
func (r *runner) check(ctx context.Context) error {
	var sum int64
	for i := range r.counters {
		n, err := r.value(ctx, i)
		if err != nil {
			return err
		}
		sum += n
	}
	if sum != *r.added {
		return fmt.Errorf("%d increments were acknowledged and %d are there", *r.added, sum)
	}
	return nil
}
