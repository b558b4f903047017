package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
)

// openDatabase opens what a name says. It creates no file.
func openDatabase(name string) (backend.Database, error) {
	if path, ok := open.File(name); ok {
		if err := checkFile(path); err != nil {
			return nil, err
		}
	}
	return open.Database(name)
}

func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no database %s: check the path; the application creates it at its first start", path)
	case err != nil:
		return err
	case info.Mode().IsRegular() && info.Size() == 0:
		return fmt.Errorf("%s is empty: no application has used it as its database", path)
	}
	return nil
}
