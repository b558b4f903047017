package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Many messages through one server on PostgreSQL, as queues there are slowed down by dead rows: with autovacuum as it is,
// and beside a snapshot that is as old as the run, which keeps it from removing any. LONG=1 sends a million.
const (
	someMessages = 50_000
	allMessages  = 1_000_000
	millionParts = 10
	senders      = 64
)

func messages() int {
	if os.Getenv("LONG") == "1" {
		return allMessages
	}
	return someMessages
}

func million(ctx context.Context, dir string, _ options, w io.Writer) ([]promise, error) {
	fmt.Fprintf(w, "\n%d messages cast by %d senders to 1 server, until all are handled: messages/s of each tenth\n", messages(), senders)
	for _, isOld := range []bool{false, true} {
		own, err := os.MkdirTemp(dir, "million")
		if err != nil {
			return nil, err
		}
		if err := sendMillion(ctx, own, isOld, w); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func sendMillion(ctx context.Context, dir string, isOld bool, w io.Writer) (err error) {
	c, err := openDurablePG(ctx, dir, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.increment(ctx, 0); err != nil {
		return err
	}
	what := "without an old snapshot"
	if isOld {
		what = "beside an old snapshot"
		old, err := connectPG(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, old.Close(ctx)) }()
		if err := old.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").Close(); err != nil {
			return err
		}
	}
	before, err := numberPG(ctx, "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "  %-26s", what)
	part := messages() / millionParts
	for i := range millionParts {
		rate, err := sendPart(ctx, c, part)
		if err != nil {
			return err
		}
		if n, err := c.value(ctx, 0); err != nil || n != int64((i+1)*part+1) {
			return errors.Join(fmt.Errorf("the server has counted %d of %d", n, (i+1)*part+1), err)
		}
		fmt.Fprintf(w, " %7.0f", rate)
	}
	size, err := numberPG(ctx, `SELECT pg_total_relation_size('"`+schemaOf(dir)+`".kv')`)
	if err != nil {
		return err
	}
	after, err := numberPG(ctx, "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
	fmt.Fprintf(w, "   table and index %d MB, log %d MB\n", size>>20, (after-before)>>20)
	return err
}

// sendPart casts so many messages, and returns how many a second were handled.
func sendPart(ctx context.Context, c contender, n int) (rate float64, err error) {
	began := time.Now()
	var sent atomic.Int64
	var ended sync.WaitGroup
	errs := make([]error, senders)
	for i := range senders {
		ended.Go(func() {
			for sent.Add(1) <= int64(n) && errs[i] == nil {
				errs[i] = c.cast(ctx, 0)
			}
		})
	}
	ended.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	_, err = c.value(ctx, 0) // which is answered when all before it are handled
	return float64(n) / time.Since(began).Seconds(), err
}

func numberPG(ctx context.Context, sql string) (n int64, err error) {
	c, err := connectPG(ctx)
	if err != nil {
		return 0, err
	}
	results, err := c.Exec(ctx, sql).ReadAll()
	if err == nil && len(results) == 1 && len(results[0].Rows) == 1 {
		n, err = strconv.ParseInt(string(results[0].Rows[0][0]), 10, 64)
	}
	return n, errors.Join(err, c.Close(ctx))
}
