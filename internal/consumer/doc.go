// Package consumer runs the servers of some types in this process: it finds out which has something to do, gives it to a
// worker, and sees to what comes after the turn. It is also how a message is sent (Handle): through memory, when a consumer
// of this process takes it, and else through the queue.
//
// # The way of a message
//
//	Handle.Cast -> tenant.Parcel -> store       the queue, the server's mark, the bell of its shard
//	scan (ready.go)                             the bell rang: which servers have a mark
//	Wake -> run queue -> worker (worker.go)
//	visit -> turn.Turn (visit.go)               claims first, if consumers may have died (claim.go); the transaction; then
//	                                            answers, AfterCommit functions, locked work, and when the server is next
//
// A message whose sender is in this process joins the turn instead (arrival.go).
//
// # What it promises
//
//   - No message is without a mark, or a row among those that are parked, but where a server has halted; and no wait rests on
//     a bell alone: whatever is missed is found within seconds.
//   - One server has one turn at a time in a consumer. Of turns in several consumers, and of those of Info, which runs at once
//     and beside any (info.go), the store's transaction lets one commit.
//   - A handler that does not return costs its server 4 seconds for each attempt, and the others the moment in which the
//     stacks are read (overrun.go).
//   - What is in hand when Run ends comes to its end, or is left to others as it was (shutdown.go).
//
// # What it does not know
//
// How keys and records are made (package tenant), what a turn does in its transaction (package turn), how a lock is kept
// (package lease), and what operators do (package operate).
//
// # Goroutines
//
// Of one consumer:
//
//	for each shard of its types   one that looks for ready servers, and one that moves what is due: 8 shards for one type, at
//	                              most 128 for any number
//	for each label                one that looks at the servers that were pinned to it, or are parked there
//	the pulse                     one; and one for a moment, for each type and shard with work, that reads who the peers are
//	workers                       one for each turn, at most Options.Turns; up to 32 of them stay when there is nothing to
//	                              do. When a handler does not return, another one takes its worker's place
//	Attend                        one, for the record of the process (package mailbox)
//	the hall                      one, while messages of this process wait for a turn, and for a second after
//	locks                         see package lease
//	AfterCommit                   one for each turn whose functions run or wait, at most 1,000 of a server
//	the end                       one that waits for all of these
//
// Info has one for each call. Functions of the program that have not returned in their time are left to themselves (stray.go).
// Timers, of which each server that waits for something has one, run on the runtime's goroutines.
//
// Each protocol has its crash table: claims, parking, messages that nobody handles, servers of other labels (claim.go,
// parked.go, unheard.go, elsewhere.go). Standing by (standby.go) has none, as nothing but time rests on it.
package consumer
