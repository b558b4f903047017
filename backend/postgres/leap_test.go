package postgres

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// neverLooks makes each commit fail that is not one round trip.
func neverLooks(db *DB) { db.sql.bound = "SELECT 1/0" }

// sharing returns two handles of one schema.
func sharing(t *testing.T) (db, other *DB) {
	name := pgtest.Name(t)
	db, other = openTest(t, name), openTest(t, name)
	set(t, db, "a", "1")
	set(t, other, "b", "1")
	hears(db, other)
	return db, other
}

// hears tells db of the last commit of other, as a notification does.
func hears(db, other *DB) {
	db.log.ExpectForeign()
	db.writer.follow(other.writer.clock)
}

// While others commit, a commit is one round trip, which takes numbers above theirs.
func TestCommitsOfSeveralProcessesLeapOverEachOther(t *testing.T) {
	t.Parallel()
	db, other := sharing(t)
	neverLooks(db)
	neverLooks(other)
	var last backend.Versionstamp
	for i := range 20 {
		for _, pair := range [][2]*DB{{db, other}, {other, db}} {
			db := pair[0]
			hears(db, pair[1])
			var version backend.Future[backend.Versionstamp]
			transact(t, db, func(tx backend.Tx) error {
				version = tx.Version()
				var err error
				if i%2 == 1 {
					items := tx.GetRange(backend.NewKey("q").Below(), backend.RangeOptions{Limit: 3})
					a, _ := tx.Get(backend.NewKey("a")).Get()
					tx.Set(backend.NewKey("a"), append(a, '!'))
					_, err = items.Get()
				}
				tx.Append(backend.NewKey("q"), nil)
				return err
			})
			now, err := version.Get()
			must(t, err)
			if now.Compare(last) <= 0 {
				t.Errorf("%v comes after %v", now, last)
			}
			last = now
		}
	}
	if a := get(t, db, "a"); a != "1"+strings.Repeat("!", 20) {
		t.Errorf("%q", a)
	}
}

// What a transaction has read is compared where it leaps, however it was read and whatever became of it.
func TestALeapFailsWhereWhatWasReadIsAnother(t *testing.T) {
	t.Parallel()
	key := func(name string) backend.Key { return backend.NewKey("in", name) }
	long := backend.NewKey("in", strings.Repeat("l", headBytes))
	all := backend.NewKey("in").Below()
	reads := map[string]func(tx backend.Tx) error{
		"keys": func(tx backend.Tx) error {
			values := []backend.Future[[]byte]{tx.Get(key("b")), tx.Get(key("d")), tx.Get(key("absent"))}
			for _, v := range values {
				if _, err := v.Get(); err != nil {
					return err
				}
			}
			return nil
		},
		"conflict": func(tx backend.Tx) error {
			tx.Conflict(key("b"))
			tx.Conflict(key("d"))
			tx.Conflict(key("absent"))
			_, err := tx.Get(backend.NewKey("other")).Get() // which sends all of them
			return err
		},
		"range": func(tx backend.Tx) error {
			_, err := tx.GetRange(all, backend.RangeOptions{}).Get()
			return err
		},
		"backwards": func(tx backend.Tx) error {
			_, err := tx.GetRange(all, backend.RangeOptions{Reverse: true}).Get()
			return err
		},
		"snapshot": func(tx backend.Tx) error {
			_, err := tx.GetRange(all, backend.RangeOptions{Snapshot: true}).Get()
			return err
		},
		"limit": func(tx backend.Tx) error {
			_, err := tx.GetRange(all, backend.RangeOptions{Limit: 1}).Get()
			return err
		},
	}
	for name, c := range map[string]struct {
		meanwhile func(tx backend.Tx)
		conflicts string // the reads that have to run again
	}{
		"nothing":        {func(tx backend.Tx) { tx.Set(backend.NewKey("out"), []byte("2")) }, ""},
		"the same value": {func(tx backend.Tx) { tx.Set(key("b"), []byte("1")) }, ""},
		"a value":        {func(tx backend.Tx) { tx.Set(key("b"), []byte("2")) }, "keys conflict range backwards limit"},
		"an empty one":   {func(tx backend.Tx) { tx.Set(key("b"), nil) }, "keys conflict range backwards limit"},
		"the last value": {func(tx backend.Tx) { tx.Set(key("d"), []byte("2")) }, "keys conflict range backwards"},
		"one goes":       {func(tx backend.Tx) { tx.Clear(key("b").Only()) }, "keys conflict range backwards limit"},
		"one comes":      {func(tx backend.Tx) { tx.Set(key("c"), nil) }, "range backwards"},
		"an absent one":  {func(tx backend.Tx) { tx.Set(key("absent"), nil) }, "keys conflict range backwards limit"},
		"one for another": {func(tx backend.Tx) {
			tx.Clear(key("d").Only())
			tx.Set(key("c"), []byte("1"))
		}, "keys conflict range backwards"},
		"a long one":  {func(tx backend.Tx) { tx.Set(long, nil) }, "range backwards"},
		"an addition": {func(tx backend.Tx) { tx.Add(key("n"), 1) }, "range backwards"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, other := sharing(t)
			bound := db.sql.bound
			for kind, read := range reads {
				transact(t, other, func(tx backend.Tx) error {
					tx.Clear(all)
					tx.Set(key("b"), []byte("1"))
					tx.Set(key("d"), []byte("1"))
					tx.Add(key("n"), 1)
					return nil
				})
				want := 1
				switch {
				case strings.Contains(c.conflicts, kind):
					want = 2
				case name != "a long one":
					neverLooks(db)
				}
				runs := 0
				transact(t, db, func(tx backend.Tx) error {
					err := read(tx)
					if runs++; runs == 2 && db.writer.length == 0 {
						t.Errorf("%s: it is not cautious", kind)
					}
					if runs == 1 && err == nil {
						transact(t, other, func(tx backend.Tx) error { c.meanwhile(tx); return nil })
						hears(db, other)
					}
					tx.Set(backend.NewKey("written"), nil)
					return err
				})
				if runs != want {
					t.Errorf("%s: it ran %d times; want %d", kind, runs, want)
				}
				db.sql.bound, db.writer.caution = bound, caution{}
			}
		})
	}
}

// What is too much to be compared, and what has long keys, is read instead.
func TestWhatIsTooMuchForALeapIsCommitted(t *testing.T) {
	t.Parallel()
	key := func(i int) backend.Key { return backend.NewKey("many", int64(i)) }
	for name, fill := range map[string]func(tx backend.Tx){
		"many": func(tx backend.Tx) {
			for i := range maxCompared + 1 {
				tx.Set(key(i), nil)
			}
		},
		"large": func(tx backend.Tx) {
			for i := range 3 {
				tx.Set(key(i), make([]byte, maxComparedBytes/2))
			}
		},
		"long": func(tx backend.Tx) { tx.Set(backend.NewKey("many", strings.Repeat("l", headBytes)), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, other := sharing(t)
			transact(t, db, func(tx backend.Tx) error { fill(tx); return nil })
			hears(db, other)
			bound := db.sql.bound
			neverLooks(db)
			err := db.Transact(t.Context(), func(tx backend.Tx) error {
				_, err := tx.GetRange(backend.NewKey("many").Below(), backend.RangeOptions{}).Get()
				tx.Set(backend.NewKey("written"), nil)
				return err
			})
			if err == nil {
				t.Error("it was compared")
			}
			db.sql.bound = bound
			for want := 1; want <= 2; want++ {
				hears(db, other)
				runs := 0
				transact(t, db, func(tx backend.Tx) error {
					pairs, err := tx.GetRange(backend.NewKey("many").Below(), backend.RangeOptions{}).Get()
					if runs++; runs < want && err == nil {
						transact(t, other, func(tx backend.Tx) error { tx.Set(pairs[len(pairs)-1].Key, []byte("2")); return nil })
					}
					tx.Set(backend.NewKey("written"), nil)
					return err
				})
				if runs != want {
					t.Errorf("it ran %d times; want %d", runs, want)
				}
			}
		})
	}
}

// A group that draws its numbers and comes to the lock after one that drew its own later draws again.
func TestALeapThatComesTooLateLeapsAgain(t *testing.T) {
	t.Parallel()
	db, other := sharing(t)
	neverLooks(db)
	db.writer.ahead.Add(-time.Hour.Microseconds())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := db.Transact(ctx, func(tx backend.Tx) error { tx.Set(backend.NewKey("a"), []byte("2")); return nil })
	if err == nil || !strings.Contains(err.Error(), "division by zero") {
		t.Fatalf("it leapt over a clock that was an hour ahead: %v", err)
	}
	if db.writer.length == 0 {
		t.Error("it is not cautious")
	}
	hears(db, other)
	set(t, db, "a", "3")
	if a := get(t, other, "a"); a != "3" {
		t.Errorf("%q", a)
	}
}

// Anybody may notify. What is notified takes the clock of a process no further than it may have gone.
func TestANotificationDoesNotTakeTheClockToItsEnd(t *testing.T) {
	t.Parallel()
	db, _ := sharing(t)
	for _, number := range []int64{math.MaxInt64, math.MaxInt64 - 1, 1 << 62, math.MinInt64, -1} {
		before := db.writer.draw()
		db.heard(nil, &pgconn.Notification{Payload: fmt.Sprint("1 ", number, " *")})
		if now := db.writer.draw(); now < before || now-before > time.Minute.Microseconds() {
			t.Errorf("%d takes it from %d to %d", number, before, now)
		}
	}
	before := db.writer.draw()
	db.heard(nil, &pgconn.Notification{Payload: fmt.Sprint("1 ", before+maxHeard/2, " *")})
	if now := db.writer.draw(); now < before+maxHeard/2 {
		t.Errorf("%d is not followed from %d: %d", before+maxHeard/2, before, now)
	}
}

// Who is cautious does not leap.
func TestCautionIsHeeded(t *testing.T) {
	t.Parallel()
	db, _ := sharing(t)
	neverLooks(db)
	db.writer.left = 2
	err := db.Transact(t.Context(), func(tx backend.Tx) error { tx.Set(backend.NewKey("a"), []byte("2")); return nil })
	if err == nil {
		t.Error("it leapt")
	}
	set(t, db, "a", "3")
}

// After leaps that failed some groups are read again instead, up to a bound, until one succeeds.
func TestCautionAfterLeapsThatFail(t *testing.T) {
	var c caution
	var looks []int
	for range 7 {
		n := 0
		for c.isCautious() {
			n++
		}
		looks = append(looks, n)
		c.leapt(false)
	}
	c.leapt(true)
	c.left = 0
	c.leapt(false)
	if got, want := fmt.Sprint(looks, c.isCautious()), "[0 0 2 6 14 15 15] false"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

// queued lets commits wait for the clock's lock, in this order, until all of them do.
func queued(t *testing.T, db *DB, commits ...func() error) {
	t.Helper()
	c, err := db.connect(t.Context())
	must(t, err)
	defer c.close()
	must(t, c.script(t.Context(), "BEGIN; "+db.sql.lock))
	done := make(chan error, len(commits))
	for i, commit := range commits {
		go func() { done <- commit() }()
		await(t, "a commit to wait for the lock", func() bool {
			return pgtest.Exec(t, pgtest.URL(t), fmt.Sprintf("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND "+
				"NOT granted AND objid = '%s.clock'::regclass::oid", quoted(db.options.schema))) == fmt.Sprint(i+1)
		})
	}
	must(t, c.script(t.Context(), "COMMIT"))
	for range commits {
		must(t, <-done)
	}
}

// What a leap compares and writes is as of when it has the lock, whatever isolation a role or a server prefers.
func TestALeapSeesWhatWasCommittedWhileItWaited(t *testing.T) {
	t.Parallel()
	head := strings.Repeat("l", headBytes)
	short, long, longToo := backend.NewKey("a"), backend.Key(head+"1"), backend.Key(head+"2")
	for name, c := range map[string]struct {
		first backend.Key // is set by the other process
		then  func(tx backend.Tx) error
		want  map[string]string
		runs  int32
	}{
		"what was read": {short, func(tx backend.Tx) error {
			value, err := tx.Get(short).Get()
			tx.Set(backend.NewKey("copy"), value)
			return err
		}, map[string]string{string(backend.NewKey("copy")): "2"}, 2},
		"a key that is cleared": {
			short, func(tx backend.Tx) error { tx.Clear(short.Only()); return nil },
			map[string]string{string(short): ""}, 1,
		},
		"a range that is cleared": {
			backend.NewKey("a", "b"), func(tx backend.Tx) error { tx.Clear(short.Below()); return nil },
			map[string]string{string(backend.NewKey("a", "b")): ""}, 1,
		},
		"a long key beside one that is cleared": {
			longToo, func(tx backend.Tx) error { tx.Clear(long.Only()); return nil },
			map[string]string{string(long): "", string(longToo): "2"}, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := pgtest.Name(t)
			other := openTest(t, schema)
			db := openTest(t, schema+"&options=-c%20default_transaction_isolation%3Drepeatable%5C%20read")
			transact(t, other, func(tx backend.Tx) error { tx.Set(long, []byte("1")); return nil })
			set(t, db, "other", "1")
			hears(db, other)
			hears(other, db)
			db.writer.ahead.Add(time.Minute.Microseconds()) // it is not refused for its numbers
			var runs atomic.Int32
			queued(t, db, func() error {
				return other.Transact(t.Context(), func(tx backend.Tx) error { tx.Set(c.first, []byte("2")); return nil })
			}, func() error {
				return db.Transact(t.Context(), func(tx backend.Tx) error { runs.Add(1); return c.then(tx) })
			})
			must(t, other.Read(t.Context(), func(tx backend.ReadTx) error {
				for key, want := range c.want {
					value, err := tx.Get(backend.Key(key)).Get()
					if err != nil || string(value) != want {
						t.Errorf("%.20q is %q; want %q: %v", key, value, want, err)
					}
				}
				return nil
			}))
			if runs.Load() != c.runs {
				t.Errorf("it ran %d times; want %d", runs.Load(), c.runs)
			}
		})
	}
}

// Long keys are not compared as their heads are.
func TestLongKeysConflictWithLeaps(t *testing.T) {
	t.Parallel()
	head := strings.Repeat("l", headBytes)
	for name, c := range map[string]struct {
		read func(tx backend.Tx) error
		key  string
	}{
		"a key that is a head": {func(tx backend.Tx) error {
			_, err := tx.Get(backend.Key(head)).Get()
			return err
		}, head},
		"a range with a head": {func(tx backend.Tx) error {
			r := backend.Range{Begin: backend.Key("l"), End: backend.Key("m")}
			_, err := tx.GetRange(r, backend.RangeOptions{Limit: 1}).Get()
			return err
		}, head},
		"a range within a head": {func(tx backend.Tx) error {
			r := backend.Range{Begin: backend.Key(head + "m"), End: backend.Key(head + "z")}
			_, err := tx.GetRange(r, backend.RangeOptions{}).Get()
			return err
		}, head + "n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, other := sharing(t)
			transact(t, other, func(tx backend.Tx) error {
				tx.Set(backend.Key(head), nil)
				tx.Set(backend.Key(head+"a"), nil)
				return nil
			})
			runs := 0
			transact(t, db, func(tx backend.Tx) error {
				err := c.read(tx)
				if runs++; runs == 1 && err == nil {
					transact(t, other, func(tx backend.Tx) error { tx.Set(backend.Key(c.key), []byte("2")); return nil })
					hears(db, other)
				}
				tx.Set(backend.NewKey("written"), nil)
				return err
			})
			if runs != 2 {
				t.Errorf("it ran %d times", runs)
			}
		})
	}
}

// What the server refuses in a leap leaves the connection as it was.
func TestWhatIsRefusedInALeapConcernsNoOther(t *testing.T) {
	t.Parallel()
	db, other := sharing(t)
	pgtest.Exec(t, pgtest.URL(t), fmt.Sprintf(`CREATE FUNCTION %[1]s.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.v = 'bad' THEN RAISE EXCEPTION 'no' USING ERRCODE = '23514'; END IF; RETURN NEW; END $$;
		CREATE TRIGGER no BEFORE INSERT OR UPDATE ON %[1]s.kv FOR EACH ROW EXECUTE FUNCTION %[1]s.no()`, quoted(db.options.schema)))
	for _, value := range []string{"bad", "good", "bad", "good"} {
		hears(db, other)
		err := db.Transact(t.Context(), func(tx backend.Tx) error {
			_, err := tx.Get(backend.NewKey("a")).Get()
			tx.Set(backend.NewKey("b"), []byte(value))
			return err
		})
		if isBad := value == "bad"; isBad != (err != nil && strings.Contains(err.Error(), "23514")) {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// cutting is a connection that ends when a transaction is to be rolled back.
type cutting struct {
	net.Conn
	cuts *atomic.Bool
}

func (c cutting) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("ROLLBACK\x00")) && c.cuts.CompareAndSwap(true, false) {
		c.Close()
	}
	return c.Conn.Write(b)
}

// A connection may end after a leap that failed.
func TestAConnectionThatEndsAfterALeapIsReplaced(t *testing.T) {
	t.Parallel()
	var cuts atomic.Bool
	name := pgtest.Name(t)
	other := openTest(t, name)
	db := openTest(t, name+"&sslmode=disable", func(o *options) {
		o.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			return cutting{c, &cuts}, err
		}
	})
	set(t, other, "a", "1")
	hears(db, other)
	if runs := runsWhile(t, db, func() {
		set(t, other, "a", "2")
		hears(db, other)
		cuts.Store(true)
	}); runs != 2 || cuts.Load() {
		t.Errorf("it ran %d times, and was cut: %v", runs, !cuts.Load())
	}
}
