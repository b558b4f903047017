// Package fdb keeps a database in a FoundationDB cluster: the backend for more than one machine.
//
//	Transact ─ reads a snapshot ─> buffers writes ─> version in hand ─> line ─> token ─> commit ─┬─> known
//	                                                          those that wait go together        └─> unknown: look at the token,
//	                                                                                                 fence it off where it is absent
//
// It needs FoundationDB's client library (libfdb_c) to link, so the real package is behind the build tag fdb; without
// it Open answers an error that says what to install and how to build. docs/foundationdb.md has the rest.
//
// What it guarantees is what [github.com/dserver-go/dserver/backend.Database] says, commits whose outcome the cluster
// does not know included: commit.go tells how, and has the table of what happens when something dies. Applications
// share a cluster without seeing each other, each in a directory of its own, see [Dir].
//
// A cluster that cannot be reached is waited for, at any moment and as long as the caller's context lets it: Open
// itself sends nothing. The package knows keys and values. What they mean is known above it.
package fdb
