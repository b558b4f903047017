package sqlite

import (
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
	first, second := listen(db.files.log()), listen(db.files.log())
	for i := range 20 {
		mustSet(t, []*DB{db, other}[i%2], "a", strconv.Itoa(i))
		for _, n := range []*notices{first, second} {
			select {
			case <-n.come:
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
	if n := listen(db.files.log() + "-not-there"); n.come != nil {
		t.Error("it listens to a file that is not there")
	} else {
		n.close()
	}
}

// A watch on a commit of another handle fires by the notice of it: no look in intervals is due here.
func TestWatchesFireByNotice(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	p := newPoll(db, occ.NewWatches(true))
	p.trusts = time.Hour
	db.background.Go(p.run)
	for i := range 2 * idleLooks {
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
