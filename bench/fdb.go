//go:build fdb

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/apple/foundationdb/bindings/go/src/fdb"
	"github.com/apple/foundationdb/bindings/go/src/fdb/directory"
	"github.com/apple/foundationdb/bindings/go/src/fdb/subspace"
	"github.com/apple/foundationdb/bindings/go/src/fdb/tuple"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
)

// On FoundationDB, the subject is the same program, and the baselines are hand-written on Apple's binding: (a) a
// transaction that reads and writes for each increment, (d) a queue and a watch for each answer, see forerunner.go.
// The loads run against the cluster of the default cluster file, in directories that are removed afterwards.
var (
	durableFDB    = entry{name: "DServer on FoundationDB", open: openDurableFDB}
	remoteFDB     = entry{name: "DServer on FoundationDB, consumer in another process", open: openRemoteFDB(1)}
	twoFDB        = entry{name: "DServer on FoundationDB, 2 consumer processes", open: openRemoteFDB(2)}
	fourFDB       = entry{name: "DServer on FoundationDB, 4 consumer processes", open: openRemoteFDB(4)}
	eightFDB      = entry{name: "DServer on FoundationDB, 8 consumer processes", open: openRemoteFDB(8)}
	singleFDB     = entry{name: "(a) FoundationDB, transaction per increment", open: openSingleFDB}
	queuedFDB     = entry{name: "(d) FoundationDB, an item a transaction", open: openForerunner}
	queuedAwayFDB = entry{name: "(d) FoundationDB, consumer in another process", open: openForerunnerAway}
)

const isFDB = true

// sectionsFDB is the run with FDB=1.
func sectionsFDB() []section {
	var all []section
	for _, l := range loadsFDB() {
		all = append(all, l.section())
	}
	return append(all, commits(openPlace))
}

func loadsFDB() []load {
	return []load{
		{
			name: "call1", title: "1 caller, 1 server", callers: 1, counters: 1,
			subject: durableFDB, baseline: singleFDB, atLeast: 0.9,
		},
		{
			name: "call64", title: "64 callers, 1 server", callers: 64, counters: 1,
			subject: durableFDB, baseline: queuedFDB, atLeast: 20, others: []entry{singleFDB},
		},
		{
			name: "remote64", title: "64 callers in another process, 1 server", callers: 64, counters: 1,
			subject: remoteFDB, baseline: queuedAwayFDB, atLeast: 8,
		},
		{
			name: "cast64", title: "64 senders cast to 1 server, until all are handled", callers: 64, counters: 1, casts: true,
			subject: durableFDB, baseline: queuedFDB, atLeast: 25,
		},
		{
			name: "call256", title: "256 callers, 1,000 servers", callers: 256, counters: 1000,
			subject: durableFDB, baseline: singleFDB, atLeast: 0.8,
		},
		{
			name: "remote1", title: "1 caller in another process, 1 server", callers: 1, counters: 1,
			subject: remoteFDB, baseline: singleFDB, median: 3,
		},
		{
			name: "crowd64", title: "64 callers in one process, 8 consumers in others, 1 server", callers: 64, counters: 1,
			subject: eightFDB, baseline: remoteFDB, atLeast: 0.9, others: []entry{twoFDB, fourFDB},
		},
	}
}

// place is the directory of a contender, named after its folder.
func place(dir string) []string { return []string{"dserver-bench", filepath.Base(dir)} }

// nameFDB is the database's name, as a child process is given it.
func nameFDB(dir string) string {
	path := place(dir)
	return "fdb:?dir=" + path[0] + "/" + path[1]
}

func openDurableFDB(ctx context.Context, dir string, n int) (contender, error) {
	db, err := open.Database(nameFDB(dir))
	if err != nil {
		return nil, err
	}
	s := &servers{db: db, handles: handles(counters, db, n), stop: consume(ctx, db, counters)}
	return removing{s, dir}, nil
}

// openRemoteFDB has consumers in so many other processes.
func openRemoteFDB(consumers int) func(ctx context.Context, dir string, n int) (contender, error) {
	return func(ctx context.Context, dir string, n int) (contender, error) {
		r, err := openRemote(ctx, nameFDB(dir), n, consumers)
		if err != nil {
			return nil, err
		}
		return removing{r, dir}, nil
	}
}

// openPlace is a store of FoundationDB.
func openPlace(dir string) (backend.Database, func() error, error) {
	db, err := open.Database(nameFDB(dir))
	if err != nil {
		return nil, nil, err
	}
	return db, func() error { return errors.Join(db.Close(), removePlace(dir)) }, nil
}

// removing removes the contender's directory when it is closed.
type removing struct {
	contender
	dir string
}

func (r removing) others() (usage, error) {
	if s, ok := r.contender.(spread); ok {
		return s.others()
	}
	return usage{}, nil
}

func (r removing) close() error { return errors.Join(r.contender.close(), removePlace(r.dir)) }

func removePlace(dir string) error {
	db, err := connectFDB()
	if err == nil {
		_, err = directory.Root().Remove(db, place(dir))
	}
	return err
}

var connecting sync.Mutex // the binding's table of connections has no lock of its own

func connectFDB() (fdb.Database, error) {
	connecting.Lock()
	defer connecting.Unlock()
	if err := fdb.APIVersion(730); err != nil {
		return fdb.Database{}, err
	}
	return fdb.OpenDatabase(os.Getenv("FDB_CLUSTER_FILE"))
}

// rowsFDB are counters at keys of their own.
type rowsFDB struct {
	db   fdb.Database
	keys []fdb.Key
}

func openRows(dir string, n int) (rowsFDB, subspace.Subspace, error) {
	db, err := connectFDB()
	if err != nil {
		return rowsFDB{}, nil, err
	}
	root, err := directory.CreateOrOpen(db, place(dir), nil)
	if err != nil {
		return rowsFDB{}, nil, err
	}
	r := rowsFDB{db: db, keys: make([]fdb.Key, n)}
	for i := range r.keys {
		r.keys[i] = root.Pack(tuple.Tuple{"visits-" + strconv.Itoa(i)})
	}
	return r, root, nil
}

// singlesFDB is baseline (a).
type singlesFDB struct{ rowsFDB }

func openSingleFDB(_ context.Context, dir string, n int) (contender, error) {
	rows, _, err := openRows(dir, n)
	return removing{singlesFDB{rows}, dir}, err
}

func (s singlesFDB) increment(_ context.Context, counter int) error {
	_, err := s.db.Transact(func(tr fdb.Transaction) (any, error) { return addOneFDB(tr, s.keys[counter]) })
	return err
}

func addOneFDB(tr fdb.Transaction, key fdb.Key) (int64, error) {
	n, err := numberFDB(tr, key)
	if err != nil {
		return 0, err
	}
	tr.Set(key, binary.LittleEndian.AppendUint64(nil, uint64(n+1)))
	return n + 1, nil
}

func numberFDB(tr fdb.ReadTransaction, key fdb.Key) (int64, error) {
	value, err := tr.Get(key).Get()
	if err != nil || value == nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint64(value)), nil
}

func (s singlesFDB) cast(ctx context.Context, counter int) error { return s.increment(ctx, counter) }

func (r rowsFDB) value(_ context.Context, counter int) (int64, error) {
	n, err := r.db.ReadTransact(func(tr fdb.ReadTransaction) (any, error) { return numberFDB(tr, r.keys[counter]) })
	if err != nil {
		return 0, err
	}
	return n.(int64), nil
}

func (s singlesFDB) close() error { return nil }
