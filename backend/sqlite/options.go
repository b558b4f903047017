package sqlite

// Option changes how Open opens a database.
type Option func(*options)

type options struct {
	relaxed bool
}

// Relaxed lets Transact return before its commit is on the disk (synchronous=NORMAL instead of FULL).
//
// A power cut or a crash of the operating system may then take commits that were acknowledged: the last ones, up to
// those since the write-ahead log was last copied into the file, always whole and always from the end, so that what
// remains is a state that once was. The file stays sound. A crash of the process alone, kill -9 included, takes nothing.
// It is never the default: use it for tests, caches and imports that can be started again. It holds for the commits of
// this handle, not for those of other processes on the same file.
func Relaxed() Option {
	return func(o *options) { o.relaxed = true }
}

// synchronous makes the commits of a connection synced before they can be seen, or not.
func synchronous(synced bool) string {
	if synced {
		return "PRAGMA synchronous = FULL"
	}
	return "PRAGMA synchronous = NORMAL"
}
