// Package logs is how the library logs: the names of the fields, and the logger of who was given none.
package logs

import "github.com/rs/zerolog"

// Field names of log lines. They are none of zerolog's own (level, time, message, error): of a name that a line has twice
// most parsers lose one value.
const (
	Types       = "types"
	Server      = "server"
	Message     = "msg_name" // "message" is zerolog's name of the line's text
	Stamp       = "stamp"
	Code        = "code" // of an error
	Attempts    = "attempts"
	MaxAttempts = "max_attempts"
	Letters     = "letters"
	Wait        = "wait" // until the next attempt
	Show        = "show" // the command that shows a message that was set aside
	Panic       = "panic"
	Stack       = "stack"
	Schema      = "schema"
	Function    = "function"
	Key         = "key"
	Place       = "place" // in the program: file and line
	Process     = "process"
	Label       = "label"
	Host        = "host"
	PID         = "pid"
	Ahead       = "ahead" // of this process's clock, at least
)

// WithStack adds a stack to a line, if there is one.
func WithStack(stack string) func(*zerolog.Event) {
	return func(line *zerolog.Event) {
		if stack != "" {
			line.Str(Stack, stack)
		}
	}
}
