package sqlite

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// Each commit gives notice of itself when it can be seen, to all who listen; and a handle that is closed listens no more.
func TestCommitsGiveNotice(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	take := func() (*notices, chan struct{}) {
		taken := make(chan struct{}, 1)
		return listen(db.files.log(), func() time.Duration {
			select {
			case taken <- struct{}{}:
			default:
			}
			return 0
		}), taken
	}
	first, atFirst := take()
	second, atSecond := take()
	for i := range 20 {
		mustSet(t, []*DB{db, other}[i%2], "a", strconv.Itoa(i))
		for _, taken := range []chan struct{}{atFirst, atSecond} {
			select {
			case <-taken:
			case <-time.After(time.Minute):
				t.Fatal("no notice has come")
			}
		}
	}
	first.close()
	for i := range 5 { // those that nobody takes harm nobody
		mustSet(t, db, "a", strconv.Itoa(i))
	}
	second.close()
	if n := listen(db.files.log()+"-not-there", nil); n.come {
		t.Error("it listens to a file that is not there")
	} else {
		n.close()
	}
}

// No notice is taken for as long as who took the last one says, and then the next is.
func TestNoticesRest(t *testing.T) {
	db := openTest(t)
	taken := make(chan time.Time, 100)
	n := listen(db.files.log(), func() time.Duration {
		taken <- time.Now()
		return 50 * time.Millisecond
	})
	defer n.close()
	mustSet(t, db, "a", "1")
	first := <-taken
	for i := range 20 {
		mustSet(t, db, "a", strconv.Itoa(i))
	}
	if second := <-taken; second.Sub(first) < 50*time.Millisecond {
		t.Errorf("the next was taken after %v", second.Sub(first))
	}
}

// A watch on a commit of another handle fires by the notice of it: no look in intervals is due here.
func TestWatchesFireByNotice(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	p := newPoll(db, occ.NewWatches())
	p.trusts = time.Hour
	db.background.Go(p.run)
	for i := range 64 {
		var base occ.Base
		base.Draw(db.log, time.Now())
		watch := p.watches.Make(backend.NewKey("a"), nil)
		if i > 0 {
			watch.Saw([]byte(strconv.Itoa(i - 1)))
		}
		p.watches.Set([]*occ.Watch{watch}, &base, p.watches.Suspected())
		mustSet(t, db, "own", strconv.Itoa(i)) // a notice of no use
		mustSet(t, other, "a", strconv.Itoa(i))
		awaitWatch(t, watch)
	}
}

// Whoever waits for the lock goes on with a notice of a commit, once the handle listens.
func TestWhoWaitsForTheLockHearsOfCommits(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	defer watchKey(t, db, "keep").Cancel()
	for i := range 1000 {
		mustSet(t, other, "theirs", strconv.Itoa(i))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err := db.awaitNotice(ctx, time.Hour)
		if cancel(); err == nil {
			return
		}
	}
	t.Error("no notice of a commit has come")
}
