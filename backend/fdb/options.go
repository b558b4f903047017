package fdb

import "time"

// Option changes how Open opens a database.
type Option func(*options)

type options struct {
	path []string // of the directory

	// How long a session's mark may stay as it is, by a sweeper's own clock, and how often the mark moves.
	sessionDead, sessionBeat time.Duration
	// How long an outcome is waited for after the caller has lost interest.
	grace time.Duration
	// How long a transaction waits at most to go with others, when commits are under way.
	linePatience time.Duration
}

// defaultDirectory holds the data of programs that name no directory.
const defaultDirectory = "dserver"

func defaults() options {
	return options{
		path:         []string{defaultDirectory},
		sessionDead:  10 * time.Minute,
		sessionBeat:  time.Minute,
		grace:        100 * time.Millisecond,
		linePatience: 10 * time.Millisecond,
	}
}

// Dir keeps the data in the directory of this path, in FoundationDB's directory layer, and creates it if it is not
// there. The default is the directory "dserver". Programs that name different directories do not see each other's data.
// A directory that another layer has made is refused.
func Dir(path ...string) Option {
	return func(o *options) { o.path = path }
}
