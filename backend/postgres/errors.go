package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

var errs = occ.NewErrors("postgres") //nolint:gochecknoglobals // errors

var errURL = errors.New("postgres: the name of the database is no valid URL: letters such as @, : and / in a password " +
	"are written as %40, %3A and %2F")

// errSessionGone: this process stood still for so long that others took it for dead and removed its session, or the server
// was replaced by one that never had it. So it cannot be told whether the commit that it had sent has happened.
var errSessionGone = fmt.Errorf("postgres: %w: the session of this process is gone from the server",
	backend.ErrCommitUnknown)

// outage is an error that the network, the server's end or its start explains: trying again later is sensible. Of a commit
// it says nothing about its outcome.
type outage struct{ cause error }

func (e *outage) Error() string { return fmt.Sprintf("postgres: the server is not there: %v", e.cause) }
func (e *outage) Unwrap() error { return e.cause }

// SQLSTATEs that are spoken of. A class is the first two letters.
const (
	classConnection      = "08"
	classShutdown        = "57P"
	classResources       = "53"
	classDamage          = "XX0"
	codeReadOnly         = "25006"
	codeIdleTimeout      = "25P03"
	codeSerialization    = "40001"
	codeDeadlock         = "40P01"
	codePrivilege        = "42501"
	codeNoSchema         = "3F000"
	codeNoTable          = "42P01"
	codeNoFunction       = "42883"
	codeDiskFull         = "53100"
	codeTooMany          = "53300"
	codeLockTimeout      = "55P03"
	codeCanceled         = "57014"
	codeDatabaseGone     = "57P04"
	codeUnknownParameter = "08P01" // as PgBouncer says it
	codeDataCorrupted    = "XX001"
	codeIndexCorrupted   = "XX002"
	codeInternal         = "XX000"
)

// hints say what to do.
var hints = map[string]string{ //nolint:gochecknoglobals // a constant
	codeDiskFull: "the server's disk is full: nothing of this was stored and nothing is lost; free some space and go on",
	codePrivilege: "the role lacks a right: it needs USAGE on the schema, SELECT, INSERT, UPDATE and DELETE on its tables, " +
		"USAGE and UPDATE on its sequence, and CREATE on the database unless the schema is there",
	codeNoTable:    "the schema was changed or dropped while the database was open",
	codeNoFunction: "the schema was changed or dropped while the database was open",
	codeNoSchema:   "the schema was changed or dropped while the database was open",
	"28P01":        "the password is wrong",
	"28000":        "the server does not let this user in: look at pg_hba.conf",
	"3D000":        "there is no such database",
}

func codeOf(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// isOutage reports whether the network or the server's end explains err.
func isOutage(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		var config *pgconn.ParseConfigError
		return !errors.As(err, &config) // what is not the server's word is the network's
	}
	switch e.Code {
	case codeDatabaseGone:
		return false
	case codeReadOnly, codeIdleTimeout, codeTooMany:
		return true
	}
	return strings.HasPrefix(e.Code, classConnection) || strings.HasPrefix(e.Code, classShutdown)
}

// isRace reports whether the server ended a transaction in favour of others: it was not committed and may be run again.
func isRace(err error) bool {
	switch codeOf(err) {
	case codeSerialization, codeDeadlock, codeLockTimeout, codeCanceled:
		return true
	}
	return false
}

// isRefusal reports whether err is the server's word that the statement was not carried out, on a connection that goes on.
// Any other error says nothing about a commit: the server may end a connection whose commit is done, and a pooler may say
// as an error that it has lost the server.
func isRefusal(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.SeverityUnlocalized == "ERROR" && !strings.HasPrefix(e.Code, classConnection)
}

// isLost reports whether an attempt that ended so is run again when the server is there: an outage, or one that is a
// standby for now.
func isLost(err error) bool {
	var out *outage
	var follower *standby
	return errors.As(err, &out) || errors.As(err, &follower)
}

// describe wraps an error of the driver with what was being done and a hint.
func describe(doing string, err error) error {
	code := codeOf(err)
	hint, isHinted := hints[code]
	switch {
	case code == codeDataCorrupted || code == codeIndexCorrupted:
		return fmt.Errorf("postgres: %s: %w: %w", doing, backend.ErrCorrupt, err)
	case isHinted:
		return fmt.Errorf("postgres: %s: %s: %w", doing, hint, err)
	}
	return fmt.Errorf("postgres: %s: %w", doing, err)
}

// judge describes an error of a statement, as an outage where it is one.
func judge(doing string, err error) error {
	switch {
	case err == nil || isLost(err):
		return err
	case isOutage(err):
		return &outage{err}
	}
	return describe(doing, err)
}

// closedBy is what calls get after the handle has ended.
func closed() error { return fmt.Errorf("postgres: %w", backend.ErrClosed) }

// unknownBy is what a group gets whose outcome cannot be found out, because of cause.
func unknownBy(cause error) error {
	return fmt.Errorf("postgres: commit: %w: %w", backend.ErrCommitUnknown, cause)
}

// unreached is why a wait for the server was given up.
func unreached(ctx context.Context, cause error) error {
	return fmt.Errorf("postgres: wait for the server: %w: %w", ctx.Err(), cause)
}
