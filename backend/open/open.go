// Package open opens a database by its name, for programs and tools whose users choose the store:
//
//	counter.db                                    a SQLite file
//	sqlite:counter.db                             the same
//	postgres://user@host/db?dserver_schema=shop   PostgreSQL, in the schema shop, "dserver" where none is named
//	fdb:                                          FoundationDB, by its default cluster file
//	fdb:/etc/foundationdb/fdb.cluster?dir=shop    FoundationDB, in the directory shop (dir=shop/eu is a path of two)
//
// It links every backend that the program was built with. A program that needs just one calls that package's Open.
package open

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/fdb"
	"github.com/dserver-go/dserver/backend/postgres"
	"github.com/dserver-go/dserver/backend/sqlite"
)

// Usage is the form of a name, for the help of a flag.
const Usage = "FILE, sqlite:FILE, postgres://USER@HOST/DB?dserver_schema=NAME or fdb:CLUSTERFILE?dir=NAME"

// scheme is what a name begins with that is no file's name. One letter is a drive.
var scheme = regexp.MustCompile(`^([a-z][a-z0-9+.-]+):`)

// File returns the path in a name that is that of a file, for programs that look at it before it is opened.
func File(name string) (path string, ok bool) {
	kind, rest := cut(name)
	return rest, kind == "sqlite"
}

func cut(name string) (kind, rest string) {
	if m := scheme.FindString(name); m != "" {
		return strings.TrimSuffix(m, ":"), name[len(m):]
	}
	return "sqlite", name
}

// Database opens the database of this name. The errors are those of the backend, or tell the form of a name.
func Database(name string) (backend.Database, error) {
	switch kind, rest := cut(name); kind {
	case "sqlite":
		return orNil(sqlite.Open(rest))
	case "postgres", "postgresql":
		return orNil(postgres.Open(name))
	case "fdb":
		return openFDB(rest)
	}
	return nil, fmt.Errorf("open: %q is no database that is known here: use %s", name, Usage)
}

func openFDB(rest string) (backend.Database, error) {
	file, query, _ := strings.Cut(rest, "?")
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return nil, fmt.Errorf("open: the parameters of fdb:%s: %w", rest, err)
	}
	var options []fdb.Option
	for name, values := range parameters {
		if name != "dir" || len(values) != 1 || values[0] == "" {
			return nil, fmt.Errorf("open: fdb:%s: the one parameter is dir, given once", rest)
		}
		options = append(options, fdb.Dir(strings.Split(values[0], "/")...))
	}
	return orNil(fdb.Open(file, options...))
}

// orNil keeps a nil pointer from becoming an interface that is not nil.
func orNil[D backend.Database](db D, err error) (backend.Database, error) {
	if err != nil {
		return nil, err
	}
	return db, nil
}
