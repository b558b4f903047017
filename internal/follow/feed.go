package follow

import (
	"context"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// feed is what the followers of one server share. Looks are numbered as they begin. They are made by whoever has the lead, one
// at a time, so their order is that of the commits that they see:
//
//  1. A follower that joins wants a look that begins after it has joined, and says so to the leader, who may be waiting.
//  2. The leader looks: it sets the watch and reads the version in one snapshot, with the rows if they are others. What it
//     found is shown to all, and all are woken.
//  3. When what was found is no news to it, it waits for the watch, for one who has joined, or for mailbox.LookInterval, and
//     looks again. After an error it waits for mailbox.RetryInterval. A watch that fires soon after a look waits until pace is
//     over: what changes all the time is not read all the time.
//  4. When it is, it gives the lead away, with the watch. Whoever waits next has it. A watch that fires meanwhile has fired
//     then. When its context ends it gives up the watch as well, so that the next one looks at once.
type feed struct {
	at    place
	lead  chan struct{} // has room for one
	asked chan struct{} // has room for one: somebody has joined

	watch backend.Watch // the leader's; nil when nothing is watched
	fired bool          // the leader's: the look is for a watch that fired
	began time.Time     // the leader's: the last look

	mu        sync.Mutex
	followers int // guarded by feeds.mu as well
	whole     int // of them want the rows
	begun     uint64
	found     sight
	news      chan struct{} // closed with the next look
}

// pace is from one look for a watch to the next, at least. It is short for whoever watches a page. A server at full speed would
// cause a thousand looks each second, of which all its followers decode what they find.
const pace = 10 * time.Millisecond

// sight is what a look found. Nobody changes its rows: they are cloned for each follower.
type sight struct {
	number uint64 // of the look; 0: there was none
	state  turn.State
	err    error
}

// place names a feed.
type place struct {
	db  backend.Database
	ref tenant.Ref
}

// feeds are those of this process that have followers.
var feeds = struct {
	mu  sync.Mutex
	all map[place]*feed
}{all: map[place]*feed{}}

// join finds or makes the feed of a server, for one more follower, who wants the rows or only the version.
func join(at place, whole bool) *feed {
	feeds.mu.Lock()
	defer feeds.mu.Unlock()
	f := feeds.all[at]
	if f == nil {
		f = &feed{at: at, lead: make(chan struct{}, 1), asked: make(chan struct{}, 1), news: make(chan struct{})}
		feeds.all[at] = f
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followers++
	if whole {
		f.whole++
	}
	return f
}

// leave ends a follower. The last one leaves nothing behind.
func (f *feed) leave(whole bool) {
	feeds.mu.Lock()
	defer feeds.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if whole {
		f.whole--
	}
	if f.followers--; f.followers == 0 {
		f.unwatch() // nobody has the lead
		delete(feeds.all, f.at)
	}
}

// ask makes somebody look, and returns the number that the look has at least (1).
func (f *feed) ask() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case f.asked <- struct{}{}:
	default:
	}
	return f.begun + 1
}

// latest is what was found last, and what is closed when there is more.
func (f *feed) latest() (sight, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.found, f.news
}

// advance waits for something to look for, and looks (2, 3). Then it gives the lead away, which its caller has taken. seen is
// the last look that the caller knows.
func (f *feed) advance(ctx context.Context, seen sight) {
	defer func() { <-f.lead }()
	if found, _ := f.latest(); found.number != seen.number {
		return // another leader has looked meanwhile
	}
	f.await(ctx, seen)
	f.look(ctx)
}

// await is step 3. It returns at once where nothing is watched, as the last look came to nothing.
func (f *feed) await(ctx context.Context, last sight) {
	f.fired = false
	if f.watch == nil && last.err == nil {
		return
	}
	pause, watch := mailbox.LookInterval, (<-chan struct{})(nil)
	if last.err != nil {
		pause = mailbox.RetryInterval
	} else {
		watch = f.watch.Done()
	}
	timer := time.NewTimer(mailbox.Jittered(pause))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-watch:
		f.fired = true
		f.rest(ctx)
	case <-f.asked:
	case <-timer.C:
	}
}

// rest waits until pace is over, or for one who has joined.
func (f *feed) rest(ctx context.Context) {
	left := pace - time.Since(f.began)
	if left <= 0 {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-f.asked:
	case <-timer.C:
	}
}

// look is step 2. Where ctx has ended, it comes to nothing, and the next leader looks: who has asked this one is not forgotten.
func (f *feed) look(ctx context.Context) {
	f.unwatch()
	f.began = time.Now()
	f.mu.Lock()
	select {
	case <-f.asked: // who has joined until now is served by this look
	default:
	}
	f.begun++
	last, whole, number := f.found, f.whole > 0, f.begun
	f.mu.Unlock()

	keys := tenant.KeysOf(f.at.ref)
	var st turn.State
	err := f.at.db.Read(ctx, func(tx backend.ReadTx) (err error) {
		f.unwatch() // a run before this one
		f.watch = tx.Watch(keys.Version())
		st, err = f.read(tx, keys, last.state, whole)
		return err
	})
	if err != nil {
		f.unwatch()
		if ctx.Err() != nil {
			return
		}
		st, err = last.state, tenant.Doing("follow", f.at.ref, err)
	}
	f.show(sight{number, st, err})
}

// read reads what is wanted. The rows that are known are those of their version.
func (f *feed) read(tx backend.Reader, keys tenant.Keys, known turn.State, whole bool) (st turn.State, err error) {
	if whole && (f.fired || known.Rows == nil) { // the version is another one, most likely
		return turn.ReadWhole(tx, keys)
	}
	value, err := tx.Get(keys.Version()).Get()
	if err != nil {
		return st, err
	}
	if st.Version, err = backend.StampOf(value); err != nil || !whole {
		return st, err
	}
	if st.Version == known.Version {
		return known, nil
	}
	return turn.ReadWhole(tx, keys)
}

// show makes what was found known, and wakes those who wait for it.
func (f *feed) show(found sight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.found = found
	close(f.news)
	f.news = make(chan struct{})
}

// unwatch gives the watch up.
func (f *feed) unwatch() {
	if f.watch != nil {
		f.watch.Cancel()
		f.watch = nil
	}
}
