package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// once makes the first of the commits that follow meet f.
func (p *proxy) once(f fault) {
	isDone := false
	p.with(func() fault {
		if isDone {
			return forwarded
		}
		isDone = true
		return f
	})
}

// increment adds 1 to key n and appends to q. It returns how often it ran, and the version.
func increment(ctx context.Context, db *DB) (runs int, version backend.Versionstamp, err error) {
	var v backend.Future[backend.Versionstamp]
	err = db.Transact(ctx, func(tx backend.Tx) (err error) {
		runs++
		_, err = tx.Get(backend.NewKey("other")).Get()
		tx.Add(backend.NewKey("n"), 1)
		tx.Append(backend.NewKey("q"), nil)
		v = tx.Version()
		return err
	})
	if err == nil {
		version, err = v.Get()
	}
	return runs, version, err
}

// counted is the counter, and the stamp of the last item.
func counted(t testing.TB, db *DB) (n int64, last backend.Versionstamp) {
	t.Helper()
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		value := tx.Get(backend.NewKey("n"))
		items, err := tx.GetRange(backend.NewKey("q").Below(), backend.RangeOptions{Limit: 1, Reverse: true}).Get()
		if err != nil {
			return err
		}
		if len(items) == 1 {
			last, _ = items[0].Key.CutStamp(backend.NewKey("q"))
		}
		b, err := value.Get()
		if err == nil {
			n, err = backend.Counter(b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n, last
}

// What becomes of a commit whose connection is cut, in one round trip and in two, whoever else commits.
func TestEachFaultOfACommitIsResolved(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"alone", "by a leap", "after a look"} {
		for f, runs := range map[fault]int{lostBefore: 2, comesLate: 2, answerLost: 1} {
			t.Run(fmt.Sprint(f, " ", kind), func(t *testing.T) {
				t.Parallel()
				p, name := newProxy(t, pgtest.Name(t))
				if kind != "alone" { // the resolver waits for the attempt, and has to see what it committed meanwhile
					name += "&options=-c%20default_transaction_isolation%3Drepeatable%5C%20read"
				}
				p.delay = 500 * time.Millisecond // long after it was looked up
				db := openTest(t, name)
				if _, _, err := increment(t.Context(), db); err != nil {
					t.Fatal(err)
				}
				if kind != "alone" {
					db.log.ExpectForeign()
				}
				if kind == "after a look" {
					db.writer.left = 1000
				}
				p.once(f)
				got, version, err := increment(t.Context(), db)
				s := db.Stats()
				// One that comes late may come before it is looked up. In two steps it has the lock already.
				isLanded := f == answerLost || f == comesLate && s.Landed == 1
				if isLanded {
					runs = 1
				}
				if n, last := counted(t, db); err != nil || got != runs || n != 2 || version != last {
					t.Errorf("ran %d times, want %d; counted %d, version %v of %v: %v", got, runs, n, version, last, err)
				}
				p.awaitLate()
				if n, _ := counted(t, db); n != 2 {
					t.Errorf("counted %d in the end", n)
				}
				if s.Unknown != 1 || isLanded != (s.Landed == 1) || isLanded == (s.Fenced == 1) {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// What was found not to have happened does not happen later, even where nothing else is committed.
func TestWhatWasFencedOffDoesNotComeLater(t *testing.T) {
	t.Parallel()
	for _, isShared := range []bool{false, true} {
		t.Run(fmt.Sprint("shared ", isShared), func(t *testing.T) {
			t.Parallel()
			p, name := newProxy(t, pgtest.Name(t))
			p.delay = 500 * time.Millisecond // long after it was looked up
			db := openTest(t, name)
			add(t, db, "n", 1)
			if isShared {
				db.log.ExpectForeign()
			}
			p.once(comesLate)
			runs, errEnough := 0, errors.New("enough")
			err := db.Transact(t.Context(), func(tx backend.Tx) error {
				if runs++; runs > 1 {
					return errEnough
				}
				tx.Add(backend.NewKey("n"), 1)
				return nil
			})
			p.awaitLate()
			n := count(t, db, "n")
			if db.Stats().Landed == 1 { // it came before it was looked up
				if err != nil || n != 2 {
					t.Errorf("it was committed, and n is %d: %v", n, err)
				}
			} else if !errors.Is(err, errEnough) || n != 1 {
				t.Errorf("it is told that nothing was committed, and n is %d: %v", n, err)
			}
		})
	}
}

// A commit that is under way when it is asked for has an outcome only when it ends.
func TestACommitUnderWayIsAwaited(t *testing.T) {
	t.Parallel()
	p, name := newProxy(t, pgtest.Name(t))
	db := openTest(t, name)
	add(t, db, "n", 1)
	schema := pgtest.SchemaOf(name)
	blocker, err := db.connect(t.Context())
	must(t, err)
	defer blocker.close()
	must(t, blocker.script(t.Context(), "BEGIN; SELECT FROM "+schema+".kv FOR UPDATE")) // it holds up the commit, after the clock
	locks := func(condition string) bool {
		return pgtest.Exec(t, pgtest.URL(t), fmt.Sprintf("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND "+
			"objid = '%s.clock'::regclass::oid AND %s", schema, condition)) == "1"
	}
	p.isAt = func() {
		await(t, "the commit to be held up", func() bool {
			return locks("granted AND pid IN (SELECT pid FROM pg_locks WHERE NOT granted)")
		})
	}
	p.once(underWay)
	done := make(chan error, 1)
	go func() {
		done <- db.Transact(t.Context(), func(tx backend.Tx) error { tx.Add(backend.NewKey("n"), 1); return nil })
	}()
	await(t, "another to wait for its end", func() bool { return locks("NOT granted") })
	must(t, blocker.script(t.Context(), "COMMIT"))
	err = <-done
	if n, s := count(t, db, "n"), db.Stats(); err != nil || n != 2 || s.Unknown != 1 || s.Landed != 1 {
		t.Errorf("n is %d, %+v: %v", n, s, err)
	}
}

// Where the wait for a synchronous standby is cancelled, the server says so by a warning, and the commit is on one disk
// only. Nobody is told before it is on two.
func TestACommitWhoseStandbyIsNotAwaitedIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	s := pgtest.NewServer(t)
	db := openTest(t, s.URL())
	add(t, db, "n", 1)
	pgtest.Exec(t, s.URL(), "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
	pgtest.Exec(t, s.URL(), "SELECT pg_reload_conf()")
	await(t, "the setting", func() bool { return pgtest.Exec(t, s.URL(), "SHOW synchronous_standby_names") == "nobody" })
	done := make(chan error, 1)
	go func() {
		done <- db.Transact(t.Context(), func(tx backend.Tx) error { tx.Add(backend.NewKey("n"), 1); return nil })
	}()
	const waiting = "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
	pid := "0"
	for range 3 {
		before := pid
		await(t, "a commit that waits", func() bool {
			pid = pgtest.Exec(t, s.URL(), waiting)
			return pid != "0" && pid != before
		})
		pgtest.Exec(t, s.URL(), "SELECT pg_cancel_backend("+pid+")")
	}
	select {
	case err := <-done:
		t.Errorf("it was told %v", err)
	default:
	}
	pgtest.Exec(t, s.URL(), "ALTER SYSTEM RESET synchronous_standby_names")
	pgtest.Exec(t, s.URL(), "SELECT pg_reload_conf()")
	err := <-done
	if n, s := count(t, db, "n"), db.Stats(); err != nil || n != 2 || s.Unknown != 1 || s.Landed != 1 {
		t.Errorf("n is %d, %+v: %v", n, s, err)
	}
}

// A caller whose context ends while the outcome is unknown is told so, and it is found out all the same.
func TestACallerThatLeavesIsToldThatItIsUnknown(t *testing.T) {
	t.Parallel()
	name := pgtest.Name(t)
	blocker := openTest(t, name)
	db := openTest(t, name)
	set(t, db, "before", "1")
	release := blocker.hold(t)
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan error, 1)
	go func() { _, _, err := increment(ctx, db); told <- err }()
	await(t, "the commit to wait for the lock", func() bool {
		return pgtest.Exec(t, name, fmt.Sprintf("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND "+
			"objid = '%s.clock'::regclass::oid AND NOT granted", pgtest.SchemaOf(name))) != "0"
	})
	cancel()
	err := <-told
	if !errors.Is(err, backend.ErrCommitUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("it was told %v", err)
	}
	release()
	await(t, "the commit", func() bool { n, _ := counted(t, db); return n == 1 })
}

// hold takes the clock's lock until release.
func (db *DB) hold(t testing.TB) (release func()) {
	t.Helper()
	ctx := context.Background()
	c, err := db.connect(ctx)
	if err == nil {
		err = c.script(ctx, "BEGIN; "+db.sql.lock)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := c.script(ctx, "COMMIT"); err != nil {
			t.Error(err)
		}
		c.close()
	}
}

// Who is not picked yet has nothing committed.
func TestACallerThatLeavesTheQueueHasCommittedNothing(t *testing.T) {
	t.Parallel()
	name := pgtest.Name(t)
	db := openTest(t, name)
	release := db.writer.Hold()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, _, err := increment(ctx, db)
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, backend.ErrCommitUnknown) {
		t.Error(err)
	}
	release()
	set(t, db, "after", "1")
	if n, _ := counted(t, db); n != 0 {
		t.Errorf("counted %d", n)
	}
}

// Others took this process for dead while its commit was under way.
func TestNobodyKnowsWhatASessionThatWasSweptCommitted(t *testing.T) {
	t.Parallel()
	for _, isCommitted := range []bool{false, true} {
		t.Run(fmt.Sprint("committed ", isCommitted), func(t *testing.T) {
			t.Parallel()
			direct := pgtest.Name(t)
			schema := pgtest.SchemaOf(direct)
			p, name := newProxy(t, direct)
			db := openTest(t, name)
			if _, _, err := increment(t.Context(), db); err != nil {
				t.Fatal(err)
			}
			isDone := false
			p.with(func() fault {
				if isDone {
					return forwarded
				}
				isDone = true
				pgtest.Exec(t, direct, fmt.Sprintf("DELETE FROM %[1]s.sessions; DELETE FROM %[1]s.commits", schema))
				if isCommitted {
					return answerLost
				}
				return lostBefore
			})
			runs, _, err := increment(t.Context(), db)
			n, _ := counted(t, db)
			if !errors.Is(err, backend.ErrCommitUnknown) || runs != 1 || n > 2 {
				t.Errorf("it cannot be known, after %d runs, counted %d: %v", runs, n, err)
			}
			c, err := db.connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			if err := db.beat(c, map[int64]mark{}); err != nil || !db.session.isGone.Load() {
				t.Errorf("its session is not found to be gone: %v", err)
			}
			set(t, db, "after", "1")
			if db.session.isGone.Load() {
				t.Error("it took no new session")
			}
		})
	}
}

// A mark that moves is left alone; one that has stood still for long is removed, with what its session committed.
func TestSessionsOfTheDeadAreSwept(t *testing.T) {
	t.Parallel()
	name := pgtest.Name(t)
	dead, db := openTest(t, name), openTest(t, name)
	set(t, dead, "a", "1")
	set(t, db, "a", "2")
	c, err := db.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	seen := map[int64]mark{}
	of := func(db *DB) string {
		return pgtest.Exec(t, name, fmt.Sprintf("SELECT count(*) FROM %s.commits WHERE session = %d",
			pgtest.SchemaOf(name), db.session.id.Load()))
	}
	for range 2 {
		if err := db.beat(c, seen); err != nil {
			t.Fatal(err)
		}
	}
	if of(dead) == "0" {
		t.Error("the living were swept")
	}
	id := dead.session.id.Load()
	seen[id] = mark{seen[id].beat, time.Now().Add(-2 * db.options.sessionDead)}
	if err := db.beat(c, seen); err != nil {
		t.Fatal(err)
	}
	if of(dead) != "0" || of(db) == "0" {
		t.Errorf("%s rows of the dead and %s of the living are left", of(dead), of(db))
	}
}

// The rows of commits are removed while a session lasts, and with it.
func TestRowsOfCommitsAreBounded(t *testing.T) {
	t.Parallel()
	name := pgtest.Name(t)
	rows := func() int {
		n, _ := strconv.Atoi(pgtest.Exec(t, name, "SELECT count(*) FROM "+pgtest.SchemaOf(name)+".commits"))
		return n
	}
	db, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	for range 3*forgetEvery + 10 {
		set(t, db, "a", "1")
	}
	if n := rows(); n > 2*forgetEvery {
		t.Errorf("%d rows", n)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if n := rows(); n != 0 {
		t.Errorf("%d rows after Close", n)
	}
}

// The commit that was to remove the rows of those before may itself be lost: the next one does it.
func TestRowsOfCommitsAreRemovedByTheNextWhereOneIsLost(t *testing.T) {
	t.Parallel()
	p, name := newProxy(t, pgtest.Name(t))
	db := openTest(t, name)
	for range forgetEvery {
		set(t, db, "a", "1")
	}
	p.once(lostBefore)
	set(t, db, "a", "2")
	if s := db.Stats(); s.Fenced != 1 {
		t.Errorf("%+v", s)
	}
	direct := pgtest.URL(t)
	if n := pgtest.Exec(t, direct, "SELECT count(*) FROM "+pgtest.SchemaOf(name)+".commits"); n != "1" {
		t.Errorf("%s rows are left", n)
	}
}

// A leader gives up waiting for the server when the last who waited has left. Whoever comes at that moment is served.
func TestWhoComesWhenAllHaveLeftIsServed(t *testing.T) {
	t.Parallel()
	db := openTest(t, pgtest.Name(t))
	set(t, db, "a", "1")
	release := db.writer.Hold()
	db.writer.drop()
	dial := db.options.dial
	db.options.dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no way") }
	err := db.writer.ready()
	db.options.dial = dial
	if err == nil {
		t.Fatal("there is a connection")
	}
	done := make(chan error, 1)
	go func() {
		done <- db.Transact(t.Context(), func(tx backend.Tx) error { tx.Set(backend.NewKey("a"), []byte("2")); return nil })
	}()
	await(t, "it to queue up", func() bool { return db.writer.Waiting() == 1 })
	db.writer.serve(err)
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// kills is how often something is killed: few times in a plain run, KILLS where that is set.
func kills(few int) int {
	if n, err := strconv.Atoi(os.Getenv("KILLS")); err == nil {
		return n
	}
	return few
}

// work is a load whose every acknowledgement is kept, to be compared with what is stored.
type work struct {
	t     testing.TB
	acked atomic.Int64
	all   sync.Map // of the items that were acknowledged
	on    sync.WaitGroup
	quit  chan struct{}
	rows  string // a table of the program's

	mayLose bool // what was acknowledged, but for what is whole
}

// newWork lets workers transact on the handles until stop: each appends an item of its own, adds to a counter, and
// increments another by reading it. Each third of a worker inserts its item into a table of the program's as well.
func newWork(t testing.TB, workers int, handles ...*DB) *work {
	t.Helper()
	w := &work{t: t, quit: make(chan struct{}), rows: handles[0].options.schema + "_rows"}
	c, err := handles[0].connect(t.Context())
	must(t, err)
	must(t, c.script(t.Context(), "CREATE TABLE "+w.rows+" (item text PRIMARY KEY)"))
	c.close()
	for i := range workers {
		w.on.Go(func() { w.run(i, handles[i%len(handles)]) })
	}
	return w
}

func (w *work) run(worker int, db *DB) {
	own := backend.NewKey("own", worker%4)
	for n := 0; ; n++ {
		select {
		case <-w.quit:
			return
		default:
		}
		item := fmt.Sprint(worker, "/", n)
		err := db.Transact(context.Background(), func(tx backend.Tx) error {
			value, err := tx.Get(own).Get()
			if err != nil {
				return err
			}
			count, err := backend.Counter(value)
			tx.Set(own, backend.CounterValue(count+1))
			tx.Append(backend.NewKey("q"), []byte(item))
			tx.Add(backend.NewKey("n"), 1)
			if n%3 == 0 {
				tx.(backend.Execer).Exec(statement(w.t, "INSERT INTO "+w.rows+" VALUES ($1)", item))
			}
			return err
		})
		if err != nil {
			w.t.Errorf("worker %d: %v", worker, err)
			return
		}
		w.acked.Add(1)
		w.all.Store(item, true)
	}
}

// progress waits until so many more were acknowledged.
func (w *work) progress(more int64) {
	w.t.Helper()
	goal := w.acked.Load() + more
	await(w.t, "work to go on", func() bool { return w.acked.Load() >= goal || w.t.Failed() })
}

// stop ends the work, and compares what was acknowledged with what is stored.
func (w *work) stop(db *DB) {
	w.t.Helper()
	close(w.quit)
	w.on.Wait()
	var items []backend.KeyValue
	var n, sum int64
	err := db.Read(context.Background(), func(tx backend.ReadTx) (err error) {
		if items, err = tx.GetRange(backend.NewKey("q").Below(), backend.RangeOptions{}).Get(); err != nil {
			return err
		}
		b, err := tx.Get(backend.NewKey("n")).Get()
		if err != nil {
			return err
		}
		n, _ = backend.Counter(b)
		sum = 0
		own, err := tx.GetRange(backend.NewKey("own").Below(), backend.RangeOptions{}).Get()
		for _, kv := range own {
			c, _ := backend.Counter(kv.Value)
			sum += c
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	seen := map[string]int{}
	for _, kv := range items {
		seen[string(kv.Value)]++
	}
	for item, times := range seen {
		if times > 1 {
			w.t.Errorf("%s is there %d times", item, times)
		}
	}
	w.compareRows(db, seen)
	if w.mayLose {
		if int64(len(items)) != n || sum != n {
			w.t.Errorf("the counter has %d, the others %d, the queue %d", n, sum, len(items))
		}
		w.t.Logf("%d of %d that were acknowledged are there", n, w.acked.Load())
		if n == w.acked.Load() {
			w.t.Error("none was lost that might be: this shows nothing")
		}
		return
	}
	w.all.Range(func(item, _ any) bool {
		if seen[item.(string)] != 1 {
			w.t.Errorf("%v was acknowledged and is there %d times", item, seen[item.(string)])
		}
		return true
	})
	if acked := w.acked.Load(); n != acked || sum != acked || int64(len(items)) != acked {
		w.t.Errorf("%d were acknowledged; the counter has %d, the others %d, the queue %d", acked, n, sum, len(items))
	}
}

// compareRows compares the rows of the program, which are removed, with the items that are stored.
func (w *work) compareRows(db *DB, items map[string]int) {
	w.t.Helper()
	c, err := db.connect(context.Background())
	must(w.t, err)
	defer c.close()
	row, err := c.row(context.Background(), "SELECT coalesce(string_agg(item, ' '), '') FROM "+w.rows)
	must(w.t, err)
	must(w.t, c.script(context.Background(), "DROP TABLE "+w.rows))
	rows := map[string]bool{}
	for _, item := range strings.Fields(string(row[0])) {
		rows[item] = true
		if items[item] != 1 {
			w.t.Errorf("the row of %s is there, and the item %d times", item, items[item])
		}
	}
	for item := range items {
		_, number, _ := strings.Cut(item, "/")
		if n, _ := strconv.Atoi(number); n%3 == 0 && !rows[item] {
			w.t.Errorf("%s is there without its row", item)
		}
	}
	w.t.Logf("%d rows of the program", len(rows))
}

// isSure reports whether no commit of the handles was unknown.
func (w *work) isSure(handles ...*DB) bool {
	for _, db := range handles {
		if db.Stats().Unknown > 0 {
			return false
		}
	}
	return !w.t.Failed()
}

// tell prints what the handles met, and fails where nothing was unknown.
func (w *work) tell(what string, handles ...*DB) {
	w.t.Helper()
	var all Stats
	for _, db := range handles {
		s := db.Stats()
		all.Unknown, all.Landed, all.Fenced = all.Unknown+s.Unknown, all.Landed+s.Landed, all.Fenced+s.Fenced
		all.Outages, all.Conflicts = all.Outages+s.Outages, all.Conflicts+s.Conflicts
	}
	w.t.Logf("%s: %d acknowledged; %d commits were unknown, %d of them found and %d fenced off; %d outages",
		what, w.acked.Load(), all.Unknown, all.Landed, all.Fenced, all.Outages)
	if all.Unknown == 0 {
		w.t.Error("no commit was unknown")
	}
}

// Connections are cut at the moment of a commit, in each way, while two handles work.
func TestConnectionsKilledInCommitsLoseNothing(t *testing.T) {
	t.Parallel()
	name := pgtest.Name(t)
	p, cut := newProxy(t, name)
	handles := []*DB{openTest(t, cut), openTest(t, cut)}
	w := newWork(t, 8, handles...)
	w.progress(50)
	want, n := kills(40), 0
	done := make(chan struct{})
	p.with(func() fault {
		if n == want {
			return forwarded
		}
		if rand.IntN(5) > 0 {
			return forwarded
		}
		if n++; n == want {
			close(done)
		}
		return fault(1 + rand.IntN(int(answerLost)))
	})
	await(t, "the cuts", func() bool {
		select {
		case <-done:
			return true
		default:
			return t.Failed()
		}
	})
	w.progress(20)
	w.stop(handles[0])
	w.tell(fmt.Sprint(want, " connections cut, ", p.met), handles...)
}

// A server is killed and started again, in each way, while two handles work.
func TestKilledServerLosesNothing(t *testing.T) {
	t.Parallel()
	s := pgtest.NewServer(t, "restart_after_crash=on")
	handles := []*DB{openTest(t, s.URL()), openTest(t, s.URL())}
	w := newWork(t, 8, handles...)
	for i := 0; i < kills(3) || w.isSure(handles...) && i < 30; i++ {
		w.progress(50)
		switch i % 3 {
		case 0, 1:
			must(t, s.Stop([]string{"immediate", "kill"}[i%3]))
			must(t, s.Start())
		case 2:
			killBackend(t, s.URL())
		}
	}
	w.progress(50)
	w.stop(handles[0])
	w.tell(fmt.Sprint(kills(3), " kills of a server"), handles...)
}

// A primary is killed for good and its standby promoted, while two handles that know both work. With a synchronous standby
// nothing that was acknowledged is lost; without, the last commits may be, as the documents say, and what is there is
// whole: nothing is doubled, and nobody is stuck.
func TestKilledPrimaryIsReplaced(t *testing.T) {
	if os.Getenv("KILLS") == "" {
		t.Skip("a failover takes some time: KILLS=1 runs it")
	}
	for _, isSynchronous := range []bool{true, false} {
		t.Run(fmt.Sprint("synchronous ", isSynchronous), func(t *testing.T) {
			primary := pgtest.NewServer(t)
			standby, err := primary.Clone("one")
			must(t, err)
			t.Cleanup(standby.End)
			must(t, standby.Start())
			if isSynchronous {
				pgtest.Exec(t, primary.URL(), "ALTER SYSTEM SET synchronous_standby_names = 'one'")
				pgtest.Exec(t, primary.URL(), "SELECT pg_reload_conf()")
				await(t, "the standby to be synchronous", func() bool {
					return pgtest.Exec(t, primary.URL(), "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
				})
			}
			both := fmt.Sprintf("postgres://dserver@127.0.0.1:%d,127.0.0.1:%d/postgres?target_session_attrs=read-write&sslmode=disable",
				primary.Port(), standby.Port())
			handles := []*DB{openTest(t, both), openTest(t, both)}
			w := newWork(t, 8, handles...)
			w.progress(500)
			if !isSynchronous { // it falls behind
				pgtest.Exec(t, standby.URL(), "ALTER SYSTEM SET primary_conninfo = ''")
				pgtest.Exec(t, standby.URL(), "SELECT pg_reload_conf()")
				await(t, "the standby to be alone", func() bool {
					return pgtest.Exec(t, primary.URL(), "SELECT count(*) FROM pg_stat_replication") == "0"
				})
				w.progress(100)
				w.mayLose = true
			}
			c, err := handles[0].connect(t.Context())
			must(t, err)
			defer c.close()
			must(t, c.script(t.Context(), "BEGIN; SELECT FROM dserver.kv FOR UPDATE")) // it holds up a commit that was sent
			await(t, "a commit to be under way", func() bool {
				return pgtest.Exec(t, primary.URL(), "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted") != "0"
			})
			must(t, primary.Stop("kill"))
			must(t, standby.Do("pg_ctl", "promote -w -D "+standby.Data()))
			w.progress(500)
			w.stop(handles[0])
			w.tell(fmt.Sprint("a promoted standby, synchronous ", isSynchronous), handles...)
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Only the server's own word, on a connection that goes on, says that nothing was committed.
func TestRefusals(t *testing.T) {
	for severity, codes := range map[string]map[string]bool{
		"ERROR": {codeSerialization: true, codeDiskFull: true, codeMoved: true, "08P01": false, "08006": false},
		"FATAL": {"57P01": false, codeIdleTimeout: false, "08P01": false, codeSerialization: false},
		"PANIC": {codeDiskFull: false},
	} {
		for code, want := range codes {
			err := fmt.Errorf("commit: %w", &pgconn.PgError{SeverityUnlocalized: severity, Code: code})
			if isRefusal(err) != want {
				t.Errorf("%s %s is taken for a refusal: %v", severity, code, !want)
			}
		}
	}
	if isRefusal(io.ErrUnexpectedEOF) {
		t.Error("the end of a connection is taken for a refusal")
	}
}
