package dserver

// Field names of log lines.
const (
	logTypes    = "types"
	logServer   = "server"
	logMessage  = "message"
	logAttempts = "attempts"
	logPanic    = "panic"
	logStack    = "stack"
	logSchema   = "schema"
	logProcess  = "process"
	logFunction = "function"
	logKey      = "key"
)
