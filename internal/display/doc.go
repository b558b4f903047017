// Package display is what is stored as people see it, in a terminal or a browser, and as JSON has it: names, bodies of messages
// and states without their Go types, and how a server is, with what to do about it. What people write comes back by it, too: a
// body or a place in a state, as JSON, with the types that it had. Command dserver and package console share it, so that both
// say the same.
//
// It reads no store. Nothing of it is safe against a browser by itself: who makes HTML of it escapes it.
package display
