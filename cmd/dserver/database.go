package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/sqlite"
)

// openDatabase opens what a name says, a path or kind:place. It creates nothing.
func openDatabase(name string) (backend.Database, error) {
	kind, place, ok := strings.Cut(name, ":")
	if !ok || len(kind) == 1 { // one letter is a drive
		kind, place = "sqlite", name
	}
	switch kind {
	case "sqlite":
		return openFile(place)
	case "fdb":
		return nil, errors.New("this program was built without FoundationDB")
	}
	return nil, fmt.Errorf("there is no kind of database %q: name a file, or sqlite:FILE", kind)
}

func openFile(path string) (backend.Database, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no database %s: check the path; the application creates it at its first start", path)
	case err != nil:
		return nil, err
	case info.Mode().IsRegular() && info.Size() == 0:
		return nil, fmt.Errorf("%s is empty: no application has used it as its database", path)
	}
	return sqlite.Open(path)
}
