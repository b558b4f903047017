//go:build unix

package postgres

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// bouncer is a PgBouncer in transaction mode.
type bouncer struct {
	path, file, address string
	account             *syscall.Credential
	process             *exec.Cmd
}

// newBouncer starts a PgBouncer before a server, which has so many connections to it. Where none is installed the test is
// skipped.
func newBouncer(t *testing.T, server string, connections int) *bouncer {
	t.Helper()
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil {
		t.Skip("no PgBouncer is installed")
	}
	u, err := url.Parse(server)
	must(t, err)
	dir, err := os.MkdirTemp("", "dserver-bouncer-") // its own account has to come there
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	b := &bouncer{path: path, file: filepath.Join(dir, "ini"), address: fmt.Sprintf("127.0.0.1:%d", port)}
	must(t, os.WriteFile(filepath.Join(dir, "users"), []byte(`"dserver" ""`), 0o644))
	must(t, os.WriteFile(b.file, fmt.Appendf(nil, `[databases]
* = host=127.0.0.1 port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s/users
pool_mode = transaction
default_pool_size = %d
max_client_conn = 500
server_login_retry = 0
`, u.Port(), port, dir, connections), 0o644))
	if os.Getuid() == 0 { // it refuses root
		account, err := user.Lookup("nobody")
		must(t, err)
		uid, _ := strconv.Atoi(account.Uid)
		gid, _ := strconv.Atoi(account.Gid)
		b.account = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	b.start(t)
	t.Cleanup(b.kill)
	return b
}

func (b *bouncer) start(t *testing.T) {
	t.Helper()
	b.process = exec.Command(b.path, b.file)
	b.process.SysProcAttr = &syscall.SysProcAttr{Credential: b.account}
	must(t, b.process.Start())
	await(t, "the bouncer", func() bool {
		c, err := net.Dial("tcp", b.address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (b *bouncer) kill() {
	b.process.Process.Kill()
	b.process.Wait()
}

// name is the name of a database behind it.
func (b *bouncer) name(direct string) string {
	u, _ := url.Parse(direct)
	u.Host = b.address
	u.RawQuery += "&sslmode=disable&dserver_unprepared=true" // it may be older than 1.21
	return u.String()
}

func TestConformanceBehindABouncer(t *testing.T) {
	if !pgtest.IsAsked() {
		t.Skip("the whole suite takes some time: PG=1 runs it")
	}
	b := newBouncer(t, pgtest.URL(t), 100)
	backendtest.Run(t, func(t testing.TB) func() backend.Database {
		name := b.name(pgtest.Name(t))
		return func() backend.Database { return openTest(t, name, Snapshots(4)) }
	})
}

// Neither the end of the bouncer nor that of the server's processes behind it makes a commit be lost, or be made twice.
func TestKilledBouncerLosesNothing(t *testing.T) {
	t.Parallel()
	direct := pgtest.NewServer(t)
	b := newBouncer(t, direct.URL(), 4) // fewer than the handles have to themselves
	name := b.name(direct.URL() + "?dserver_snapshots=4")
	handles := []*DB{openTest(t, name), openTest(t, name)}
	w := newWork(t, 8, handles...)
	for i := 0; i < kills(4) || w.isSure(handles...) && i < 60; i++ {
		w.progress(20)
		if i%2 == 0 {
			b.kill()
			b.start(t)
			continue
		}
		pgtest.Exec(t, direct.URL(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dserver'")
	}
	w.progress(50)
	w.stop(handles[0])
	w.tell(fmt.Sprint(kills(4), " kills of a bouncer and of what is behind it"), handles...)
}

// Behind a bouncer watches fire by looks at the clock, and by notifications where these have a way of their own.
func TestWatchesBehindABouncer(t *testing.T) {
	t.Parallel()
	direct := pgtest.Name(t)
	b := newBouncer(t, direct, 8)
	name := b.name(direct)
	other := openTest(t, direct)
	hears := func() string {
		return pgtest.Exec(t, direct, "SELECT count(*) FROM "+pgtest.SchemaOf(direct)+".sessions WHERE hears")
	}
	expect := func(db *DB, isHeard func() bool) {
		t.Helper()
		for range 3 {
			var w backend.Watch
			must(t, db.Read(t.Context(), func(tx backend.ReadTx) error { w = tx.Watch(backend.NewKey("a")); return nil }))
			await(t, "it to listen", isHeard)
			add(t, other, "a", 1)
			select {
			case <-w.Done():
			case <-time.After(30 * time.Second):
				t.Fatal("it did not fire")
			}
		}
	}
	expect(openTest(t, name), func() bool { return true })
	if n := hears(); n != "0" {
		t.Errorf("%s listen by connections that are others' as well", n)
	}
	expect(openTest(t, name, Listen(pgtest.URL(t)), neverLook), func() bool { return hears() == "1" })
}

// The session behind a bouncer is not ours: what was set on it stays as it is after statements.
func TestSettingsBehindABouncerStay(t *testing.T) {
	t.Parallel()
	app, query := newTables(t, "CREATE TABLE app.t (zone text)")
	b := newBouncer(t, pgtest.URL(t), 4)
	db := openTest(t, b.name(pgtest.Name(t))+"&timezone=Asia/Tokyo")
	for range 3 {
		transact(t, db, func(tx backend.Tx) error {
			tx.Set(backend.NewKey("a"), []byte("1"))
			tx.(backend.Execer).Exec(statement(t, "INSERT INTO "+app+".t VALUES (current_setting('TimeZone'))"))
			return nil
		})
	}
	if got := query("SELECT count(*) || ' ' || string_agg(DISTINCT zone, ' ') FROM app.t"); got != "3 Asia/Tokyo" {
		t.Errorf("rows and zones: %s", got)
	}
}
