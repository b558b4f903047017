// River measures the job queue River (riverqueue.com) for bench: senders insert jobs that do nothing, one after the
// other, and it prints how many a second were worked off, from the first insert to the end of the last job.
//
// It is a module of its own, so that whoever uses the library does not inherit River. Bench runs it, with PG=1:
//
//	go run . postgres://user@localhost/db schema senders jobs
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// What River's own benchmark sets.
const (
	workers      = 2000
	pollInterval = 20 * time.Millisecond
	cooldown     = 2 * time.Millisecond
	connections  = 16
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "river:", err)
		os.Exit(1)
	}
}

// nothing is a job.
type nothing struct{}

// Kind implements River's JobArgs.
func (nothing) Kind() string { return "nothing" }

// worker counts jobs.
type worker struct {
	river.WorkerDefaults[nothing]
	jobs int64
	done atomic.Int64
	all  chan struct{}
}

// Work implements River's Worker.
func (w *worker) Work(context.Context, *river.Job[nothing]) error {
	if w.done.Add(1) == w.jobs {
		close(w.all)
	}
	return nil
}

func run(ctx context.Context, args []string) (err error) {
	if len(args) != 4 {
		return errors.New("a URL, a schema, the number of senders and that of jobs are needed")
	}
	senders, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	jobs, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(args[0])
	if err != nil {
		return err
	}
	config.MaxConns = connections
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	schema := pgx.Identifier{args[1]}.Sanitize()
	if _, err := pool.Exec(ctx, "CREATE SCHEMA "+schema); err != nil {
		return err
	}
	defer func() {
		_, failed := pool.Exec(ctx, "DROP SCHEMA "+schema+" CASCADE")
		err = errors.Join(err, failed)
	}()
	rate, err := measure(ctx, pool, args[1], senders, jobs)
	fmt.Printf("%.0f\n", rate)
	return err
}

func measure(ctx context.Context, pool *pgxpool.Pool, schema string, senders, jobs int) (rate float64, err error) {
	driver, silent := riverpgxv5.New(pool), slog.New(slog.NewTextHandler(io.Discard, nil))
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Schema: schema, Logger: silent})
	if err != nil {
		return 0, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return 0, err
	}
	w := &worker{jobs: int64(jobs), all: make(chan struct{})}
	kinds := river.NewWorkers()
	river.AddWorker(kinds, w)
	client, err := river.NewClient(driver, &river.Config{
		Schema: schema, Workers: kinds, Logger: silent, FetchPollInterval: pollInterval, FetchCooldown: cooldown,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}},
	})
	if err != nil {
		return 0, err
	}
	if err := client.Start(ctx); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, client.Stop(ctx)) }()
	began := time.Now()
	if err := insert(ctx, client, senders, jobs); err != nil {
		return 0, err
	}
	<-w.all
	return float64(jobs) / time.Since(began).Seconds(), nil
}

// insert inserts jobs, each sender one after the other.
func insert(ctx context.Context, client *river.Client[pgx.Tx], senders, jobs int) error {
	var sent atomic.Int64
	var ended sync.WaitGroup
	errs := make([]error, senders)
	for i := range senders {
		ended.Go(func() {
			for sent.Add(1) <= int64(jobs) && errs[i] == nil {
				_, errs[i] = client.Insert(ctx, nothing{}, nil)
			}
		})
	}
	ended.Wait()
	return errors.Join(errs...)
}
