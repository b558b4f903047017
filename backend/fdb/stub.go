//go:build !fdb

package fdb

import (
	"context"
	"errors"

	"github.com/dserver-go/dserver/backend"
)

// errNotBuilt is what Open answers in a program that was built without the tag.
var errNotBuilt = errors.New("fdb: this program was built without FoundationDB: install its client library " +
	"(the package foundationdb-clients of your FoundationDB version, which brings libfdb_c) and a C compiler, " +
	"and build with CGO_ENABLED=1 go build -tags fdb")

// DB is an open cluster. Without the build tag fdb there is none.
type DB struct{ backend.Database }

// Open answers an error that says how to build the program with FoundationDB.
func Open(string, ...Option) (*DB, error) { return nil, errNotBuilt }

// Remove answers an error that says how to build the program with FoundationDB.
func Remove(context.Context, string, ...Option) error { return errNotBuilt }

// Stats counts what the handle has met.
func (*DB) Stats() Stats { return new(counters).read() }
