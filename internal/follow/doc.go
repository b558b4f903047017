// Package follow tells what a server's state is, now and after each commit that changed it: to any number of followers, by one
// watch of the store for each followed server and process.
//
// # What it promises
//
//   - The first that a follower is told was committed, or still so, when it began or later: it sees what was acknowledged
//     before.
//   - What it is told is in the order of commits. Between two states that it sees there may be others, which came while it was
//     not waiting. The last is never missed: what it waits for is watched in the snapshot that has what it was told.
//   - No wait rests on the watch alone: the leader looks again each mailbox.LookInterval.
//   - An error of the store is told to all followers once each, and the store is asked again after mailbox.RetryInterval. When
//     that works, the state is told again.
//   - When the last follower has ended, nothing is left: no watch, no memory.
//
// # How
//
// The followers of a server share a feed. One of those that wait, the leader, waits for the watch and reads for all of them,
// and hands that on when it has something to tell its own loop (feed.go). So there is no goroutine, and a server whose
// followers are all busy with what they were told is not read. A look reads the version, and the rows when it is another one
// than before and somebody wants them.
//
// # What it does not know
//
// No handler runs here but those of queries, on the goroutine that follows, and nothing is written.
package follow
