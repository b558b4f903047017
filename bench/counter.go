package main

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
)

// durable is the subject: the counter of the README.
var durable = entry{name: "DServer on SQLite", open: openDurable}

// counter is its state.
type counter struct{ Count int64 }

// increment is a call, answered with the new value, and bump the same as a cast.
type (
	increment struct{ dserver.Returns[int64] }
	value     struct{ dserver.Returns[int64] }
	bump      struct{}
	spoil     struct{} // is refused, and becomes a dead letter
)

var errSpoilt = &dserver.Error{Code: "spoilt"}

var counters = dserver.Define("counter",
	dserver.HandleCast(func(_ *dserver.Context, c *counter, _ bump) error {
		c.Count++
		return nil
	}),
	dserver.HandleCast(func(*dserver.Context, *counter, spoil) error { return errSpoilt }),
	dserver.HandleCall(func(_ *dserver.Context, c *counter, _ increment) (int64, error) {
		c.Count++
		return c.Count, nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, c *counter, _ value) (int64, error) {
		return c.Count, nil
	}),
)

// servers is a contender that sends to durable servers.
type servers struct {
	db      backend.Database
	handles []*dserver.DServer[counter]
	stop    func() error // of the consumer
}

// file is where a contender keeps its database.
func file(dir string) string { return filepath.Join(dir, "servers.db") }

func openDurable(ctx context.Context, dir string, n int) (contender, error) {
	db, err := sqlite.Open(file(dir))
	if err != nil {
		return nil, err
	}
	return &servers{db: db, handles: handles(counters, db, n), stop: consume(ctx, db, counters)}, nil
}

func handles(types *dserver.Definition[counter], db backend.Database, n int) []*dserver.DServer[counter] {
	all := make([]*dserver.DServer[counter], n)
	for i := range all {
		all[i] = types.At(db, "visits-"+strconv.Itoa(i))
	}
	return all
}

// consume runs a consumer until the function that it returns is called.
func consume(ctx context.Context, db backend.Database, types ...dserver.Type) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var ended sync.WaitGroup
	var result error
	ended.Go(func() { result = dserver.Run(ctx, db, types...) })
	return func() error {
		cancel()
		ended.Wait()
		return result
	}
}

func (s *servers) increment(ctx context.Context, counter int) error {
	_, err := dserver.Call(ctx, s.handles[counter], increment{})
	return err
}

func (s *servers) cast(ctx context.Context, counter int) error {
	return s.handles[counter].Cast(ctx, bump{})
}

func (s *servers) value(ctx context.Context, counter int) (int64, error) {
	return dserver.Call(ctx, s.handles[counter], value{})
}

func (s *servers) close() error {
	return errors.Join(s.stop(), s.db.Close())
}
