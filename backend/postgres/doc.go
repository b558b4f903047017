// Package postgres keeps a database in a schema of a PostgreSQL server: the backend for several hosts on what a team
// already runs.
//
//	Transact ─ reads a snapshot ─> buffers writes ─┐
//	Transact ─ reads a snapshot ─> buffers writes ─┼─> one leader: clock's lock, validate, write, COMMIT ─┬─> all return
//	Transact ─ reads a snapshot ─> buffers writes ─┘                                                      └─> unknown: resolve
//
// Transactions run beside each other, each against a snapshot of its own, and keep their writes to themselves. Those that
// are ready while one commit runs are committed together by the next. All commits of a schema, by whatever process, hold
// one lock until they are durable and visible, so the order of the versionstamps is the order of the commits. commit.go
// has the protocol, and docs/decisions what was refused.
//
// What it guarantees is what [github.com/dserver-go/dserver/backend.Database] says, commits whose outcome the server did
// not tell included. A server that cannot be reached once the database is open is waited for, as long as the caller's
// context lets it. Applications share a server's database without seeing each other, each in a schema of its own, see
// [Schema].
//
// The package knows keys and values. What they mean is known above it.
package postgres
