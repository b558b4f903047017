// Package telemetry tells OpenTelemetry what a program does with its servers: traces and metrics. It stands on what package
// dserver offers to every program (Intercept, LoadOf, BacklogOf), so who does not import it does not link it, nor OpenTelemetry.
//
//	t, err := telemetry.New(telemetry.Options{})
//	...
//	db := t.Intercept(store) // in place of the store, for handles and Run
//	defer t.Close()
//
// Package prom, below it, is the same with a handler for Prometheus to scrape.
//
// # Traces
//
// The W3C trace context travels in the headers of messages, and so through the queue, timers, locks and dead letters:
//
//	send counter       of the sender, within its own trace; of a Call until its answer is there
//	process counter    of each run of a handler, or of the apply of locked work; its parent is the send
//	work counter       of each attempt of locked work; its parent is the send
//	turn counter       of a turn that joins messages of several senders, with a link to each of them
//
// What a handler sends is part of the trace of its message. A message of a timer begins a trace of its own, with a link to
// where the timer was set: a server that sets its timer again and again would otherwise have one trace for ever. A handler that
// runs again, as its turn has lost a race, has a span for each run (dserver.run); the last one counts.
//
// # Metrics
//
// The names are in names.go, and what to watch in docs/telemetry.md. Their attributes are types of servers, outcomes and verbs,
// and never an id, a message's name or a key. Of more than 200 types the others are counted as one.
package telemetry
