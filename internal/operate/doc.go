// Package operate is what operators do to servers, and see of them: status, lists of messages and dead letters, withdraw,
// retry, unlock, resume, pin, reset, kill (Server), lists of servers, of those in trouble and of consumers, a check of all that is
// stored (Check), and mends of what that finds (Repairs). Package dserver and the tool show it.
//
// # What it promises
//
//   - Each act is one transaction that conflicts with the turns that it touches: of an operator and a consumer that take
//     one message only one commits. So each may be called again when its outcome is not known. A Kill is one as well; what is
//     dead then is buried in as many as that takes, by Kill or by any consumer.
//   - Who waits for what an operator takes away is told so in the same commit.
//   - Lists are read page by page, each page in a snapshot of its own: they hold nothing, and may take their time.
//   - Check changes nothing, and compares only what it read in one snapshot.
//
// # What it does not know
//
// How a consumer runs: it wakes those of this process through package mailbox, and others find what changed by the marks. Of
// all of them it reads what they tell of themselves (Consumers).
package operate
