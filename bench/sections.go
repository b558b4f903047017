package main

import "os"

// sections is the whole run, in order: on SQLite, or with FDB=1 on FoundationDB, or with PG=1 on PostgreSQL.
func sections() []section {
	if onPG() {
		return sectionsPG()
	}
	if onFDB() {
		return sectionsFDB()
	}
	var all []section
	for _, l := range loads() {
		all = append(all, l.section())
	}
	return append(all, state, cold, commits(openFile), idle, waiting, types, takeover, tenants)
}

func onFDB() bool { return isFDB && os.Getenv("FDB") == "1" }

// loads is a durable counter, answered after the fsync, in the ways in which it is used.
func loads() []load {
	return []load{
		{
			name: "call1", title: "1 caller, 1 server", callers: 1, counters: 1,
			subject: durable, baseline: single, atLeast: 0.7, others: []entry{group, channels}, // decision 0012
		},
		{
			name: "call64", title: "64 callers, 1 server", callers: 64, counters: 1, evenTails: true,
			subject: durable, baseline: group, atLeast: 0.5, others: []entry{single, channels},
		},
		{
			name: "call256", title: "256 callers, 1,000 servers", callers: 256, counters: 1000,
			subject: durable, baseline: group, atLeast: 0.25, others: []entry{single, channels},
		},
		{
			name: "cast64", title: "64 senders cast to 1 server, until all are handled", callers: 64, counters: 1, casts: true,
			subject: durable, baseline: group, atLeast: 0.5, others: []entry{single, channels},
		},
		{
			name: "remote1", title: "1 caller in one process, consumer in another, 1 server", callers: 1, counters: 1,
			subject: remote, baseline: single,
		},
		{
			name: "remote64", title: "64 callers in one process, consumer in another, 1 server", callers: 64, counters: 1,
			subject: remote, baseline: single, atLeast: 5.0 / 6, others: []entry{group},
		},
		{
			name: "crowd64", title: "64 callers in one process, 8 consumers in others, 1 server", callers: 64, counters: 1,
			subject: crowd(8), baseline: remote, atLeast: 0.9, others: []entry{crowd(2), crowd(4)},
		},
		{
			name: "rows64", title: "64 callers, 1 server, a row of a table with each", callers: 64, counters: 1,
			subject: rows, baseline: singleRows, atLeast: 2, others: []entry{durable},
		},
		{
			name: "follow64", title: "64 callers, 1 server that is followed in another process", callers: 64, counters: 1,
			subject: followed(1), baseline: durable, others: []entry{followed(100)},
		},
		{
			name: "tool64", title: "64 callers, 100 servers that the admin tool looks at", callers: 64, counters: 100,
			subject: durable, baseline: entry{name: "alone, once more"}, others: []entry{
				withTool("ls", "--watch", "2s"), withTool("top"), withTool("tail", "counter/visits-0"), withTool("tail", "counter"),
				withTool("check"), withTool("export", "-"), withTool("stats"), withBrowsers(50),
			},
		},
	}
}
