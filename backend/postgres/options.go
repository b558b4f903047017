package postgres

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Option changes how Open opens a database.
type Option func(*options)

type options struct {
	schema     string
	listen     string // the address for LISTEN; "" is the database's own
	snapshots  int
	relaxed    bool
	unprepared bool

	// How long a session's mark may stay as it is, by a sweeper's own clock, and how often the mark moves.
	sessionDead, sessionBeat time.Duration
	stepMax                  time.Duration   // how long the server waits for the second step of a commit
	lookEvery                time.Duration   // at the clock, for watches
	dial                     pgconn.DialFunc // nil is the driver's; tests put faults here
}

// Defaults of the options.
const (
	defaultSchema    = "dserver"
	defaultSnapshots = 16
	maxSnapshots     = 1000
	maxSchemaBytes   = 63 // of a name, which PostgreSQL would cut
)

func defaults() options {
	return options{
		schema:      defaultSchema,
		snapshots:   defaultSnapshots,
		sessionDead: 10 * time.Minute,
		sessionBeat: time.Minute,
		lookEvery:   time.Second,
		stepMax:     5 * time.Second,
	}
}

// Schema keeps the data in the schema of this name, and creates it if it is not there. The default is "dserver". Programs
// that name different schemas do not see each other's data, and do not wait for each other's commits. A schema that
// something else has made tables in is refused.
func Schema(name string) Option { return func(o *options) { o.schema = name } }

// Snapshots sets how many snapshots there are at once, each with a connection: from 1 to 1,000, and 16 unless it is set.
// Transactions that begin together share one, up to 32 of them; others wait for their turn. Two connections more are for commits
// and for LISTEN.
func Snapshots(n int) Option { return func(o *options) { o.snapshots = n } }

// Listen sets where LISTEN is sent, as another URL of the same database: past a PgBouncer in transaction mode, through
// which it is not sent at all. Without it watches behind such a bouncer fire within about a second.
func Listen(url string) Option { return func(o *options) { o.listen = url } }

// Unprepared sends statements without preparing them, for a pooler that cannot keep prepared statements: PgBouncer before
// 1.21, or with max_prepared_statements = 0. Each read and commit costs the server more then.
func Unprepared() Option { return func(o *options) { o.unprepared = true } }

// Relaxed lets Transact return before its commit is on the server's disk (synchronous_commit = off for the commits of this
// handle), and opens servers that are set to fsync=off or synchronous_commit=off.
//
// A crash of the server may then take commits that were acknowledged: the last ones, of up to three times its
// wal_writer_delay, always whole and always from the end. On a server with fsync=off a power cut may leave a database that
// is damaged. It is never the default: use it for tests, caches and imports that can be started again.
func Relaxed() Option { return func(o *options) { o.relaxed = true } }

// parameters are those of a URL that are this package's, and not the driver's.
var parameters = map[string]func(o *options, value string) error{ //nolint:gochecknoglobals // a constant
	"dserver_schema": func(o *options, value string) error { o.schema = value; return nil },
	"dserver_listen": func(o *options, value string) error { o.listen = value; return nil },
	"dserver_snapshots": func(o *options, value string) (err error) {
		o.snapshots, err = strconv.Atoi(value)
		return err
	},
	"dserver_unprepared": func(o *options, value string) (err error) {
		o.unprepared, err = strconv.ParseBool(value)
		return err
	},
}

// cutParameters takes the package's own parameters out of a URL. The others stay as they are written: libpq and the driver
// take a plus for a plus, where an encoder of package url writes one for a space.
func cutParameters(name string, o *options) (string, error) {
	if !strings.HasPrefix(name, "postgres://") && !strings.HasPrefix(name, "postgresql://") {
		return "", fmt.Errorf("postgres: the name of a database is a URL: postgres://user@host/database?%s=%s",
			"dserver_schema", defaultSchema)
	}
	if _, err := url.Parse(name); err != nil {
		return "", errURL // the cause has the whole of it, a password included
	}
	base, query, _ := strings.Cut(name, "?")
	var rest []string
	seen := map[string]bool{}
	for part := range strings.SplitSeq(query, "&") {
		key, text, _ := strings.Cut(part, "=")
		value, err := url.QueryUnescape(text)
		switch {
		case err != nil:
			return "", errURL
		case !strings.HasPrefix(key, "dserver_"):
			rest = append(rest, part)
			continue
		}
		set, isKnown := parameters[key]
		if !isKnown || seen[key] || value == "" {
			return "", fmt.Errorf("postgres: the parameter %s: dserver_schema, dserver_listen, dserver_snapshots and "+
				"dserver_unprepared are known, each with one value", key)
		}
		seen[key] = true
		if err := set(o, value); err != nil {
			return "", fmt.Errorf("postgres: the parameter %s: %w", key, err)
		}
	}
	if query := strings.Join(rest, "&"); query != "" {
		return base + "?" + query, nil
	}
	return base, nil
}

// check refuses options that mean nothing.
func (o *options) check() error {
	switch {
	case o.schema == "" || len(o.schema) > maxSchemaBytes || strings.ContainsRune(o.schema, 0):
		return fmt.Errorf("postgres: the schema %q: a name of 1 to %d bytes is needed", o.schema, maxSchemaBytes)
	case strings.ContainsAny(o.schema, "\"'$\\"):
		return fmt.Errorf("postgres: the schema %q: a name without quotes, $ and \\ is needed", o.schema)
	case strings.HasPrefix(o.schema, "pg_") || o.schema == "information_schema" || o.schema == "public":
		return fmt.Errorf("postgres: the schema %q: it is not for this data; name one of its own, such as %q",
			o.schema, defaultSchema)
	case o.snapshots < 1 || o.snapshots > maxSnapshots:
		return fmt.Errorf("postgres: %d snapshots at once: from 1 to %d are possible", o.snapshots, maxSnapshots)
	}
	return nil
}
