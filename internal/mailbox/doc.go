// Package mailbox is this process as others see it: a record that says who it is, which a beat keeps, what its consumers
// can handle, and a mailbox for the answers to its calls. And it is what this process knows of the others: who lives.
//
// A Process belongs to a database, and is found by it (Of, Acquire): handles are values without a life of their own. It also
// holds what the consumers of a process share: the order of their AfterCommit functions (Acts), and the stacks of goroutines
// that were read (Stacks).
//
// # What it promises
//
//   - A call that waits has a record behind it, or nobody would answer: the push of the call writes it (announcement).
//   - An answer reaches the call that it is for, or nobody: calls are named by numbers that nobody can guess.
//   - A process with consumers beats each 10 seconds. It counts as dead when its record is gone, or stood still for three
//     beats, by the observer's own clock, over looks that were never far apart (Witness). So nothing that is final rests on
//     one death alone.
//   - The record of a process with consumers has what they have in hand, as of the beat. Its time shows others how far its
//     clock is from theirs (clock.go): they log it, and decide nothing by it.
//   - Of the processes that run a type in the same way, all know the order in which they begin with a server, and which of
//     them are at work (pulse.go). Nothing but time rests on that.
//   - What a dead process left is removed by the living (the sweep): first its claims, which say nothing of the living, and
//     then its record with all below it, if that still is as it was seen. A process that only sends beats once a minute, and
//     is swept after ten.
//
// # What it does not know
//
// No state, no turn and no definition. Of a consumer it knows what it can handle, how much it has in hand, and
// how to wake it (Member).
//
// # Goroutines
//
// None but Attend, which a consumer runs: the mailbox is read by one of the calls that wait, for all of them.
//
// # Crashes
//
//	| dies | what is left |
//	|---|---|
//	| before the commit of a call's push | nothing: no record, no message |
//	| after it | the record, and the answer when it comes: others sweep both when the record has not changed for 10 minutes |
//	| a process that is taken for dead, and is not | its calls get ErrReplyLost with its next beat, which writes a new record |
package mailbox
