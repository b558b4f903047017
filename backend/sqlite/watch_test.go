package sqlite

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	lib "modernc.org/sqlite/lib"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

func TestOwnCommitFiresBeforeItReturns(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "a", "1")
	for i := range 20 {
		watch, other := watchKey(t, db, "a"), watchKey(t, db, "b")
		mustSet(t, db, "a", strconv.Itoa(i))
		select {
		case <-watch.Done():
		default:
			t.Fatal("the commit has returned and the watch has not fired")
		}
		select {
		case <-other.Done():
			t.Error("a watch fired without reason")
		default:
		}
		other.Cancel()
	}
}

// Commits of the other handle move data_version as well as our own do. Whoever made them, none is missed.
func TestForeignCommitsFireAmongOwnOnes(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	for i := range 50 {
		watch := watchKey(t, db, "a")
		mustSet(t, db, "b", strconv.Itoa(i))
		mustSet(t, other, "a", strconv.Itoa(i))
		mustSet(t, db, "b", "again")
		awaitWatch(t, watch)
	}
}

// A commit of another process and one of our own come while a look reads: it has neither in its snapshot, and the next takes
// both for ours.
func TestForeignCommitDuringALookFires(t *testing.T) {
	db, disk := openFaulty(t)
	other := openAt(t, db.path)
	p := anotherPoll(t, db)
	db.watches = p.watches
	watch := watchKey(t, db, "a")
	p.mustLook(t)
	mustSet(t, db, "b", "so that the next look reads a page")
	meanwhile := func() {
		mustSet(t, other, "a", "1")
		mustSet(t, db, "b", "after it")
	}
	disk.onRead.Store(&meanwhile)
	p.mustLook(t)
	if disk.onRead.Load() != nil {
		t.Fatal("the look has read no page")
	}
	p.mustLook(t)
	if !isDone(watch) {
		t.Error("it has not fired")
	}
}

func (p *poll) mustLook(t *testing.T) {
	t.Helper()
	if err := p.look(); err != nil {
		t.Fatal(err)
	}
}

func isDone(w backend.Watch) bool {
	select {
	case <-w.Done():
		return true
	default:
		return false
	}
}

// A commit that failed has reserved numbers of which another process may reserve the same.
func TestForeignCommitAfterAFailedOneFires(t *testing.T) {
	db, disk := openFaulty(t)
	before, after := openAt(t, db.path), openAt(t, db.path)
	watch := watchKey(t, db, "a")
	mustSet(t, before, "b", "1")
	disk.write.Store(lib.SQLITE_FULL)
	if err := setKey(db, "b", "2"); err == nil {
		t.Fatal("a commit on a full disk did not fail")
	}
	disk.write.Store(0)
	mustSet(t, after, "a", "1")
	awaitWatch(t, watch)
}

// What was taken for ours before it was known that our commit had failed is looked at again.
func TestFailedCommitDoubtsWhatWasTakenForIt(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	p := anotherPoll(t, db)
	db.watches = p.watches
	watch := watchKey(t, db, "a")
	p.mustLook(t)
	mustSet(t, other, "a", "1")
	w := db.writer
	w.turn.Lock()
	row, err := w.row()
	if err != nil {
		t.Fatal(err)
	}
	w.owned.Store(row) // as if we had been about to reserve the same
	w.turn.Unlock()
	p.mustLook(t)
	if isDone(watch) {
		t.Fatal("it is not taken for ours")
	}
	w.turn.Lock()
	w.failed(nil, errors.New("the disk is full"))
	w.turn.Unlock()
	p.mustLook(t)
	if !isDone(watch) {
		t.Error("it has not fired")
	}
}

// What another process commits between a snapshot and the setting of its watch fires it.
func TestForeignCommitBeforeTheWatchIsSetFires(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	keep := watchKey(t, db, "keep") // so that the poll is running
	defer keep.Cancel()
	for i := range 20 {
		var watch backend.Watch
		err := db.Read(t.Context(), func(tx backend.ReadTx) error {
			watch = tx.Watch(backend.NewKey("a"))
			mustSet(t, other, "a", strconv.Itoa(i))
			if i%2 == 0 { // the poll has seen it already
				probe := watchKey(t, db, "probe")
				mustSet(t, other, "probe", strconv.Itoa(i))
				awaitWatch(t, probe)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		awaitWatch(t, watch)
	}
}

func TestOwnCommitBeforeTheWatchIsSetFires(t *testing.T) {
	db := openTest(t)
	var watch backend.Watch
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		watch = tx.Watch(backend.NewKey("a"))
		return setKey(db, "a", "1")
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-watch.Done():
	default:
		t.Error("it has not fired")
	}
}

// Watches that fired or were cancelled are forgotten, and so are those of a Read that failed.
func TestNoWatchIsKeptInVain(t *testing.T) {
	db := openTest(t)
	for i := range 10 {
		key := fmt.Sprint(i)
		fired, cancelled := watchKey(t, db, key), watchKey(t, db, key)
		cancelled.Cancel()
		cancelled.Cancel()
		mustSet(t, db, key, "1")
		awaitWatch(t, fired)
		fired.Cancel()
		select {
		case <-cancelled.Done():
			t.Error("a cancelled watch fired")
		default:
		}
	}
	failed := errors.New("no")
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		tx.Watch(backend.NewKey("a"))
		return failed
	})
	if !errors.Is(err, failed) {
		t.Error(err)
	}
	if n, keys := db.watches.Count(); n != 0 || keys != 0 {
		t.Errorf("%d watches on %d keys are kept", n, keys)
	}
}

// anotherPoll is a poll of a database beside its own, which has no watches.
func anotherPoll(t *testing.T, db *DB) *poll {
	t.Helper()
	p := newPoll(db, occ.NewWatches())
	t.Cleanup(p.close)
	return p
}

// A store in which others are busy, and nothing happens that is watched for, is looked at less often, until something does.
func TestPollRestsWhereNothingIsWatchedFor(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	p := anotherPoll(t, db)
	come := &notices{come: true}
	rest := func() time.Duration { // where notices come
		p.notices, come = come, p.notices
		defer func() { p.notices, come = come, p.notices }()
		return p.rest()
	}
	var base occ.Base
	base.Draw(db.log, time.Now())
	watch := p.watches.Make(backend.NewKey("a"), nil)
	p.watches.Set([]*occ.Watch{watch}, &base, p.watches.Suspected())
	look := func(key string, i int) time.Duration {
		t.Helper()
		mustSet(t, other, key, strconv.Itoa(i))
		if err := p.look(); err != nil {
			t.Fatal(err)
		}
		db.log.SawForeign() // just now, however slow the machine is
		return p.interval()
	}
	lasted := func(d time.Duration) { p.vain.first = p.vain.last.Add(-d) }
	if d := look("b", 1); d != pollBusy || rest() != 0 {
		t.Errorf("after one look in vain the pause is %v, and no notice is taken for %v", d, rest())
	}
	lasted(vainFor)
	if d := p.interval(); d != pollWarm {
		t.Errorf("after %v in vain the pause is %v", vainFor, d)
	}
	for _, c := range []struct{ lasted, rest time.Duration }{
		{vainShare*pollBusy - 1, 0}, {vainShare * pollBusy, pollBusy}, {10 * vainShare * pollBusy, 10 * pollBusy},
		{vainShare * maxRest, maxRest}, {time.Hour, maxRest},
	} {
		if lasted(c.lasted); rest() != c.rest {
			t.Errorf("after %v in vain no notice is taken for %v, not %v", c.lasted, rest(), c.rest)
		}
	}
	p.vain.last = p.vain.last.Add(-2 * pollTrust)
	if d := look("b", 2); d != pollBusy || rest() != 0 {
		t.Errorf("after a while in which nothing happened the pause is %v, and no notice is taken for %v", d, rest())
	}
	lasted(time.Hour)
	if d := look("a", 1); d != pollBusy || rest() != 0 {
		t.Errorf("after one that fired the pause is %v, and no notice is taken for %v", d, rest())
	}
	awaitWatch(t, watch)
}

// Where notices come the pause is long, until some have been missed in a row: then it is as without.
func TestPollDoesNotRelyOnNoticesThatDoNotCome(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	p := anotherPoll(t, db)
	p.notices = &notices{come: true}
	look := func(heard heard) time.Duration {
		t.Helper()
		mustSet(t, other, "b", rand.Text())
		p.heard, p.vain = heard, vain{}
		if err := p.look(); err != nil {
			t.Fatal(err)
		}
		db.log.SawForeign()
		return p.interval()
	}
	seen := []heard{heardKick, heardNothing, heardNothing, heardKick, heardNotice, heardNothing, heardKick, heardNothing}
	for i, heard := range seen {
		if d := look(heard); d != pollTrust {
			t.Errorf("after %v the pause is %v", seen[:i+1], d)
		}
	}
	if d := look(heardNothing); d != pollBusy {
		t.Errorf("after three commits without notice the pause is %v", d)
	}
	p.deaf = time.Now().Add(-1)
	if d := p.interval(); d != pollTrust {
		t.Errorf("after a time the pause is %v", d)
	}
}

// While no notice is taken, who commits after another process asks for the look itself.
func TestPollThatRestsIsKicked(t *testing.T) {
	db := openTest(t)
	p := anotherPoll(t, db)
	p.notices, p.isAwake = &notices{come: true}, true
	p.watches.Awaken()
	db.watches = p.watches // whose kicks the handle's own poll does not take
	for _, lasted := range []time.Duration{0, time.Hour, 0} {
		p.vain = vain{}
		if now := time.Now(); lasted > 0 {
			p.vain = vain{now.Add(-lasted), now.Add(time.Hour)} // that this look is no first one, however slow the machine is
		}
		p.heed(heardNotice)
		db.writer.turn.Lock()
		db.writer.metForeign()
		db.writer.turn.Unlock()
		select {
		case <-p.watches.Kick():
			if lasted == 0 {
				t.Error("it is kicked, though the notice of the commit will be looked at")
			}
		default:
			if lasted > 0 {
				t.Errorf("after %v in vain it is not kicked", lasted)
			}
		}
	}
}
