//go:build fdb

package fdb

import (
	"context"
	"fmt"
	"slices"

	"github.com/apple/foundationdb/bindings/go/src/fdb"
	"github.com/apple/foundationdb/bindings/go/src/fdb/directory"

	"github.com/dserver-go/dserver/backend"
)

// space is where the keys of an application are: the prefixes of two directories.
type space struct {
	data  backend.Key // before each of the application's keys
	books backend.Key // before the sessions' marks and tokens, see session.go
}

// layer marks the directories of this package, so that no other layer's data is taken for ours.
const layer = "dserver"

// booksDirectory is below the application's directory, and goes when that is removed.
const booksDirectory = "_commits"

// openSpace opens both directories, or creates them, however long the cluster takes to answer.
func (db *DB) openSpace() (*space, error) {
	s := new(space)
	err := db.insist(db.life, func(tr fdb.Transaction) (err error) {
		if s.data, err = openDirectory(tr, db.options.path); err == nil {
			s.books, err = openDirectory(tr, append(slices.Clip(db.options.path), booksDirectory))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func openDirectory(tr fdb.Transaction, path []string) (backend.Key, error) {
	dir, err := directory.CreateOrOpen(tr, path, []byte(layer))
	if err != nil {
		return nil, fmt.Errorf("open the directory %q: %w", path, err)
	}
	return dir.Bytes(), nil
}

// Remove removes an application's directory from a cluster, with all that is in it. Handles that have it open must be
// closed before: what they still write is lost in a place that nobody looks at. It may be repeated.
func Remove(ctx context.Context, clusterFile string, opts ...Option) error {
	db, err := Open(clusterFile, opts...)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.insist(ctx, func(tr fdb.Transaction) error {
		_, err := directory.Root().Remove(tr, db.options.path)
		return err
	})
}

// insist runs fn in a transaction of the package's own until it is committed or fails for good. It is for what may be
// committed more than once without harm, as after an outage it does not ask whether it was. fn reads before it writes:
// a commit with a read version in hand cannot come true much later.
func (db *DB) insist(ctx context.Context, fn func(tr fdb.Transaction) error) error {
	for n := 0; ; n++ {
		err := db.once(ctx, fn)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return db.unreached(ctx, "keep the books")
		case !isRefusal(err) && !isOutage(err):
			return describe("keep the books", err)
		}
		if idle(ctx, upTo(raceDelay, downDelayMax, n)) != nil {
			return db.unreached(ctx, "keep the books")
		}
	}
}

// once is one attempt. A commit that was sent is not cancelled: when ctx ends, it is left to itself.
func (db *DB) once(ctx context.Context, fn func(tr fdb.Transaction) error) error {
	tr, err := db.cluster.conn.CreateTransaction()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, tr.Cancel)
	err = fn(tr)
	if !stop() {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	committed := make(chan error, 1)
	go func() { committed <- db.note(tr) }()
	select {
	case err := <-committed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
