package open

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

func TestANameWithoutASchemeIsASQLiteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	for _, name := range []string{path, "sqlite:" + path} {
		db, err := Database(name)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Transact(t.Context(), func(tx backend.Tx) error { tx.Add(backend.NewKey("n"), 1); return nil })
		if err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAPostgresURLNamesASchema(t *testing.T) {
	db, err := Database(pgtest.Name(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Transact(t.Context(), func(tx backend.Tx) error { tx.Add(backend.NewKey("n"), 1); return nil })
	if err != nil {
		t.Error(err)
	}
}

func TestFilesAreToldFromOtherStores(t *testing.T) {
	for name, want := range map[string]string{
		"a.db": "a.db", "sqlite:a.db": "a.db", "/x/a:b.db": "/x/a:b.db", "C:a.db": "C:a.db", "fdb:a.cluster": "", "oracle:a": "", "postgres://a/b": "",
	} {
		path, ok := File(name)
		if ok != (want != "") || ok && path != want {
			t.Errorf("%q: %q, %v", name, path, ok)
		}
	}
}

func TestWrongNamesAreRefused(t *testing.T) {
	for name, want := range map[string]string{
		"oracle://localhost":            Usage,
		"postgres://127.0.0.1:1/db":     "postgres: ",
		"postgres://h?dserver_schema=":  "dserver_schema",
		"fdb:none.cluster?dir=":         "dir",
		"fdb:none.cluster?dir=a&dir=b":  "dir",
		"fdb:none.cluster?folder=a":     "dir",
		"fdb:none.cluster?dir=%zz":      "parameters",
		"fdb:/no/such/file?dir=shop/eu": "fdb: ",
		"sqlite:":                       "sqlite: ",
	} {
		if db, err := Database(name); err == nil || db != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", name, db, err)
		}
	}
}
