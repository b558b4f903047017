// Package tenant is one server as it is stored: a tenant is the part of the keys that belongs to one server. It makes the
// keys (keys.go, which docs/keys.md draws), encodes and decodes the records below them, and writes within a caller's
// transaction what has to be written together. It also has the records of a process (presence.go), and the rows that lead
// consumers to servers (mark.go, due.go). A record that stands alone is set by whoever decides about it.
//
// # What it promises
//
//   - What one function writes is whole: a push sets the mark by which consumers find it, and what is delayed has its row
//     in the index of what is due. The caller's transaction makes it happen at once or not at all.
//   - What a turn combines in one transaction reads first and writes then: parcels, timers, outcomes and answers have a
//     part that begins the reads, and one that writes. (A Dismissal reads what nobody else of its transaction writes.)
//   - Its records hold values of the program's as they are, and can be read by older and newer versions of the library. A
//     record that cannot be read is backend.ErrCorrupt, and an item of the queue that cannot be read is a message's fault.
//
// # What it does not know
//
// No handler, no Go type of a state, no goroutine, no transaction of its own but the burial of a killed server (Bury), and
// no clock but for the times that it stores. It does not decide what is handled, or whether a message is poison.
//
// # Where to look
//
//	what is written when a message is sent       Parcel (parcel.go)
//	what is read first of a server               Head (head.go)
//	what is written when a timer is set          Keys.WriteTimers (timer.go), and the row of the index (due.go)
//	idempotency keys                             OnceRecord (once.go), with what binds them (binding.go)
//	what is written when a lock is taken         Keys.Take (lock.go); its end before its time: LockEnd (lock_end.go)
//	dead letters                                 Letter (letter.go); the index of who has some, or halts (trouble.go)
//	where a server runs                          Pin, Keys.PinTo (pin.go)
//	answers to callers                           Outbox (answer.go)
//	the end of a server, with its crash table    Kill, Bury (kill.go)
//
// Crash tables: whatever is written here is part of somebody's commit, whose table stands there (packages turn, lease and
// consumer). Those of the stored form itself stand here: kill.go, lock_end.go, pin.go and
// trouble.go.
package tenant
