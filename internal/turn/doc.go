// Package turn is one transaction of one server: it chooses messages, loads the state, runs handlers, and writes what came
// of them (Turn, with the steps and their crash table; recall.go has one of its own). What a failure becomes, an attempt that
// is counted, a dead letter, a server that halts, is a transaction as well. A Query is a handler on a snapshot.
//
// A handler is a function of a state and of bytes (Handler, Definition), and what it asks for beside changing the state is
// a value (Scope): package dserver makes both of Go types, and anything else could. A state is any value of which a Form
// knows how it becomes rows.
//
// # What it promises
//
//   - All that a message does is in one transaction, or nothing of it. Of several in one transaction, one that fails
//     leaves no trace (Batch).
//   - A turn that lost a race commits nothing: it conflicts on the version, the lock, the messages that it takes and the
//     attempts that were counted for them.
//
// # When a message is poison
//
// A poison message becomes a dead letter, or halts its server, in one transaction (poison.go). Which it is, is decided
//
//	by its failures                           Turn.Count, which counts an attempt: the last of MaxAttempts
//	by the deaths of processes that had it    consumer/claim.go, by the claims that the dead have left
//	as nobody living has a handler            consumer/unheard.go, after NoHandlerWait
//	in locked work, by failures and deaths    lease/hold.go and lease/takeover.go; the release then ends as a refusal
//
// # What it does not know
//
// When a turn is due, on which goroutine it runs, and what is done after its commit: that is package consumer. It starts no
// goroutine and holds no mutex but that of a loader. What it needs of whoever runs it is the interface Host.
package turn
