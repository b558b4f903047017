// Package occ is optimistic concurrency control, for stores that have snapshots and one writer at a time:
//
//	Tx ─ reads a snapshot ─> buffers writes ─┐
//	Tx ─ reads a snapshot ─> buffers writes ─┼─> Queue ─> a leader: validate, write as one, publish ─> Log
//	Tx ─ reads a snapshot ─> buffers writes ─┘
//
// A transaction reads a snapshot of the store and keeps its writes to itself. Those that are ready while one commit runs
// are committed together by the next: each is checked against what was committed since its snapshot, and runs again when
// it lost.
//
// The package holds what such stores share: the transaction with its own writes over what is stored (Tx), what the groups
// of this process wrote (Log, Record), how a transaction is found to have lost (Reads), who commits for whom (Queue), what
// ranges were a moment ago (recent.go), and the watches (Watches). A store brings its snapshots, its one commit, and how
// it learns of the commits of others. The package knows no store.
package occ
