// Package dservertest tests programs that are made of durable servers, without a file and mostly without waiting.
//
//   - [Start] serves types from a database in memory until the test ends. [Settle] waits until all is handled.
//   - [ByHand] leaves the handling to the test: one message at a time, with a look at the states in between.
//   - [EachOrder] runs a small program in every order in which its messages can be sent and handled.
//   - [EachFault] runs a program with each fault of its store and each crash, one at a time; [Chaos] with random ones.
//
// In all of them each message is a turn of its own, which decodes the state from the store. What does not survive being
// stored (a field with the tag "-", the monotonic part of a time, two pointers to one value) is lost at once, as it is
// in production only after a restart. At the end of a test dserver.Check looks through the database, and a test fails
// whose database is damaged: that would be a defect of the library.
//
// All of them may be used in a bubble of testing/synctest, in which timers of hours take no time; EachOrder and
// EachFault make bubbles of their own. A handler alone needs nothing of this: the zero dserver.Context does.
//
// The repository's docs/testing.md goes through all of it with one program.
package dservertest
