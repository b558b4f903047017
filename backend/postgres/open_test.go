package postgres

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// refused opens what has to be refused, in these words.
func refused(t *testing.T, name string, opts []Option, words ...string) error {
	t.Helper()
	db, err := Open(name, opts...)
	if err == nil {
		db.Close()
		t.Fatalf("it was opened; want an error with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v; want %q in it", err, w)
		}
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the password is in it: %v", err)
	}
	return err
}

func TestNamesThatAreRefused(t *testing.T) {
	for name, want := range map[string]string{
		"":              "URL",
		"host=h user=u": "URL",
		"postgres://u:s3cret@h/db?dserver_schema=":                   "dserver_schema",
		"postgres://u:s3cret@h/db?dserver_schema=a&dserver_schema=b": "dserver_schema",
		"postgres://u:s3cret@h/db?dserver_shcema=a":                  "dserver_shcema",
		"postgres://u:s3cret@h/db?dserver_schema=pg_x":               "pg_x",
		"postgres://u:s3cret@h/db?dserver_schema=public":             "public",
		"postgres://u:s3cret@h/db?dserver_schema=a%22b":              "quotes",
		"postgres://u:s3cret@h/db?dserver_snapshots=0":               "snapshots",
		"postgres://u:s3cret@h/db?dserver_snapshots=many":            "dserver_snapshots",
		"postgres://u:s3cret@h/db?dserver_unprepared=perhaps":        "dserver_unprepared",
		"postgres://u:s3c/ret@h:port/db":                             "URL",
		"postgres://u:s3cret@h/db?sslmode=perhaps":                   "sslmode",
		"postgres://u:s3cret@h/db?dserver_listen=postgres://h:x/db":  "",
	} {
		refused(t, name, nil, want, "postgres: ")
	}
	refused(t, "postgres://h/db", []Option{Schema(strings.Repeat("x", 64))}, "63")
}

// What is the driver's stays as it is written.
func TestParametersOfTheDriverAreLeftAlone(t *testing.T) {
	o := defaults()
	const options = "options=-c%20default_transaction_isolation%3Drepeatable%5C%20read"
	rest, err := cutParameters("postgres://u:p%2F@h:1,i:2/db?dserver_schema=a+b%26c&"+options+"&sslmode=disable&dserver_snapshots=3", &o)
	want := "postgres://u:p%2F@h:1,i:2/db?" + options + "&sslmode=disable"
	if err != nil || rest != want || o.schema != "a b&c" || o.snapshots != 3 {
		t.Errorf("%q, schema %q, %d snapshots; want %q: %v", rest, o.schema, o.snapshots, want, err)
	}
	if rest, err = cutParameters("postgres://h/db?dserver_schema=a", &o); err != nil || rest != "postgres://h/db" {
		t.Errorf("%q: %v", rest, err)
	}
}

func TestAServerThatIsNotThereIsRefused(t *testing.T) {
	began := time.Now()
	refused(t, "postgres://u:s3cret@127.0.0.1:1/db", nil, "127.0.0.1")
	if took := time.Since(began); took > openWait {
		t.Errorf("after %v", took)
	}
}

func TestWrongDatabaseAndPasswordAreNamed(t *testing.T) {
	t.Parallel()
	s := pgtest.NewServer(t)
	refused(t, strings.Replace(s.URL(), "/postgres", "/elsewhere", 2), nil, "elsewhere")
	pgtest.Exec(t, s.URL(), "CREATE ROLE plain LOGIN PASSWORD 'right'")
	plain := strings.Replace(s.URL(), "dserver@", "plain:s3cret@", 1)
	refused(t, plain, nil, "CREATE SCHEMA") // it may not create one
	pgtest.Exec(t, s.URL(), `CREATE SCHEMA dserver AUTHORIZATION plain`)
	db := openTest(t, plain)
	set(t, db, "a", "1")
}

// A role without the right to create uses a schema that another has made.
func TestRoleMayUseTheSchemaOfAnother(t *testing.T) {
	t.Parallel()
	s := pgtest.NewServer(t)
	owner := openTest(t, s.URL())
	set(t, owner, "a", "1")
	pgtest.Exec(t, s.URL(), "CREATE ROLE guest LOGIN")
	guest := strings.Replace(s.URL(), "dserver@", "guest@", 1)
	refused(t, guest, nil, "the role lacks a right")
	pgtest.Exec(t, s.URL(), `GRANT USAGE ON SCHEMA dserver TO guest;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA dserver TO guest;
		GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA dserver TO guest`)
	db := openTest(t, guest)
	set(t, db, "b", "1")
	if got := get(t, db, "a"); got != "1" {
		t.Errorf("a is %q", got)
	}
}

func TestServersThatLoseCommitsAreRefusedUnlessRelaxed(t *testing.T) {
	t.Parallel()
	for setting, word := range map[string]string{"fsync=off": "fsync=off", "synchronous_commit=off": "synchronous_commit is off"} {
		s := pgtest.NewServer(t, setting)
		refused(t, s.URL(), nil, word, "Relaxed")
		db := openTest(t, s.URL(), Relaxed())
		set(t, db, "a", "1")
	}
	s := pgtest.NewServer(t)
	pgtest.Exec(t, s.URL(), "ALTER ROLE dserver SET synchronous_commit = off")
	refused(t, s.URL(), nil, "synchronous_commit is off")
}

// A server of the test's, that follows another.
func TestStandbyIsRefusedAndItsPrimaryWarnsOfIt(t *testing.T) {
	t.Parallel()
	primary := pgtest.NewServer(t)
	standby, err := primary.Clone("one")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.End)
	if err := standby.Start(); err != nil {
		t.Fatal(err)
	}
	refused(t, standby.URL(), nil, "standby", "primary")
	await(t, "the standby to follow", func() bool {
		return pgtest.Exec(t, primary.URL(), "SELECT count(*) FROM pg_stat_replication") == "1"
	})
	db := openTest(t, primary.URL())
	var told error
	db.Report(func(what error) { told = what })()
	if told == nil || !strings.Contains(told.Error(), "failover") {
		t.Errorf("it was told %v", told)
	}
}

func TestSchemaOfSomethingElseOrANewerReleaseIsRefused(t *testing.T) {
	t.Parallel()
	name := pgtest.Name(t)
	schema := pgtest.SchemaOf(name)
	pgtest.Exec(t, name, fmt.Sprintf("CREATE SCHEMA %[1]s; CREATE TABLE %[1]s.customers (id integer)", schema))
	refused(t, name, nil, "something else")
	name = pgtest.Name(t)
	openTest(t, name).Close()
	pgtest.Exec(t, name, fmt.Sprintf("UPDATE %s.about SET version = 99", pgtest.SchemaOf(name)))
	refused(t, name, nil, "newer release")
}

// Of those that open it at once, one makes the schema.
func TestOpenAtOnceCreatesOneSchema(t *testing.T) {
	t.Parallel()
	name := pgtest.Name(t)
	errs := make(chan error)
	for range 8 {
		go func() {
			db, err := Open(name)
			if err == nil {
				err = db.Close()
			}
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestSchemasDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	one, two := openTest(t, pgtest.Name(t)), openTest(t, pgtest.Name(t))
	set(t, one, "a", "1")
	if got := get(t, two, "a"); got != "" {
		t.Errorf("a is %q in another schema", got)
	}
}

func TestNamesOfSchemasAreAnyPlainText(t *testing.T) {
	t.Parallel()
	base := pgtest.URL(t)
	for _, schema := range []string{"With Space", "select", "grün", "a-b;c"} {
		t.Cleanup(func() { pgtest.Exec(t, base, `DROP SCHEMA IF EXISTS "`+schema+`" CASCADE`) })
		db := openTest(t, base+"?dserver_schema="+url.QueryEscape(schema))
		set(t, db, "a", "1")
		if got := get(t, db, "a"); got != "1" {
			t.Errorf("%q: a is %q", schema, got)
		}
	}
}

// What does without prepared statements, without settings at the start and with one snapshot at a time does all the same.
func TestOptionsOfPoolers(t *testing.T) {
	t.Parallel()
	name := pgtest.Name(t)
	db := openTest(t, name+"&dserver_unprepared=true&dserver_snapshots=1&dserver_listen="+url.QueryEscape(pgtest.URL(t)))
	other := openTest(t, name, Unprepared())
	for i := range 5 {
		add(t, db, "n", 1)
		add(t, other, "n", 1)
		set(t, db, "a", fmt.Sprint(i))
		if got := get(t, other, "a"); got != fmt.Sprint(i) {
			t.Fatalf("a is %q", got)
		}
	}
	if n := count(t, db, "n"); n != 10 {
		t.Errorf("n is %d", n)
	}
}

func set(t testing.TB, db *DB, key, value string) {
	t.Helper()
	transact(t, db, func(tx backend.Tx) error { tx.Set(backend.NewKey(key), []byte(value)); return nil })
}

func add(t testing.TB, db *DB, key string, n int64) {
	t.Helper()
	transact(t, db, func(tx backend.Tx) error { tx.Add(backend.NewKey(key), n); return nil })
}

func transact(t testing.TB, db *DB, fn func(tx backend.Tx) error) {
	t.Helper()
	if err := db.Transact(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, db *DB, key string) string {
	t.Helper()
	var value []byte
	err := db.Read(t.Context(), func(tx backend.ReadTx) (err error) {
		value, err = tx.Get(backend.NewKey(key)).Get()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(value)
}

func count(t testing.TB, db *DB, key string) int64 {
	t.Helper()
	n, err := backend.Counter([]byte(get(t, db, key)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// await polls for a condition that nobody announces.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("waited in vain for", what)
		}
	}
}
