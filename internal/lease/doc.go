// Package lease keeps the locks that a consumer holds, and the work under them, outside of any transaction (Keeper; the
// steps with their crash table are in hold.go). And it watches the locks of other consumers, and takes over those whose
// holder is dead (vigil.go, takeover.go).
//
// A lock is a lease: its holder beats, and who sees no beat for three seconds, by its own clock, may take it over. Its fence
// is a fencing token, the versionstamp of the commit that took it: a result with another fence is refused.
//
// # What it promises
//
//   - The result of work is committed once, or not at all, by whoever holds the lock then.
//   - The context of work ends before others may take its lock over.
//   - A thousand locks cost one beat and one row to watch, not a thousand.
//
// # What it does not know
//
// When a turn runs, and how it commits: the end of work is handed to the consumer (Host.Release). How many may work at a
// time, and when a server is next.
//
// # Goroutines
//
// One for each lock whose work runs, and one for its attempt; one that beats while there are any; one that watches while any
// lock of others is known. For work that does not return in its time one waits. All end with the consumer, but that work.
package lease
