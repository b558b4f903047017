package sqlite

import (
	"errors"
	"sync"
	"time"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend"
)

// Watches. A commit of this process fires those of the keys that it wrote, at once. Commits of other processes are
// found by polling PRAGMA data_version on a connection that does nothing else, as long as there are watches. It moves
// with our own commits as well, so the sequence row tells whose it was: when it may have been another's, the watched
// keys are read and compared with what their watchers saw.
type watches struct {
	db   *DB
	kick chan struct{} // tells the poll that there is something to do

	mu       sync.Mutex
	keys     map[string][]*watch
	count    int
	suspects uint64 // how often another process may have committed
	compared uint64 // the suspects for which all keys were compared
	isClosed bool
}

// The pause between two looks. A look costs little, but to wake up for it takes up to a tenth of a millisecond of
// processor time on a virtual machine: at pollIdle that is below a hundredth of a core.
const (
	pollBusy = time.Millisecond      // while another process is seen to commit, see sharedFor
	pollWarm = 5 * time.Millisecond  // for warmFor after
	pollIdle = 10 * time.Millisecond // where none was seen for long, as where there is none
	warmFor  = time.Minute
)

// watch implements [backend.Watch].
type watch struct {
	watches *watches
	key     string
	seen    []byte // the value in the snapshot
	fired   chan struct{}
	isOver  bool // fired or cancelled; guarded by watches.mu
}

// Done implements [backend.Watch].
func (w *watch) Done() <-chan struct{} { return w.fired }

// Cancel implements [backend.Watch].
func (w *watch) Cancel() {
	w.watches.mu.Lock()
	defer w.watches.mu.Unlock()
	w.watches.remove(w)
}

// remove forgets w. The caller holds mu.
func (s *watches) remove(w *watch) {
	if w.isOver {
		return
	}
	w.isOver = true
	list := s.keys[w.key]
	for i, other := range list {
		if other == w {
			last := len(list) - 1
			list[i], list[last] = list[last], nil
			s.keys[w.key] = list[:last]
			s.count--
			break
		}
	}
	if len(s.keys[w.key]) == 0 {
		delete(s.keys, w.key)
	}
}

// fireKey fires the watches of key. The caller holds mu.
func (s *watches) fireKey(key string) {
	list := s.keys[key]
	delete(s.keys, key)
	s.count -= len(list)
	for _, w := range list {
		w.isOver = true
		close(w.fired)
	}
}

// suspected is read before a snapshot begins and handed to set.
func (s *watches) suspected() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.suspects
}

// set makes the watches of a snapshot that began after base and suspects were read. What was committed in between
// fires them now.
func (s *watches) set(made []*watch, base *record, suspects uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range made {
		if w.isOver {
			continue
		}
		s.keys[w.key] = append(s.keys[w.key], w)
		s.count++
		if s.isClosed || wroteAfter(base, backend.Key(w.key)) {
			s.fireKey(w.key)
		}
	}
	if s.suspects != suspects {
		s.compared = min(s.compared, suspects) // these keys were not compared since
	}
	s.wake()
}

func wroteAfter(base *record, key backend.Key) bool {
	for c := base.next.Load(); c != nil; c = c.next.Load() {
		if c.points.find(key) != nil || c.cleared.contains(key) {
			return true
		}
	}
	return false
}

func (s *watches) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// fire fires the watches of the keys that c wrote. The record is published already, so that set finds it.
func (s *watches) fire(c *record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == 0 {
		return
	}
	if len(s.keys) > c.points.count && len(c.cleared) == 0 {
		for _, block := range c.points.blocks {
			for _, w := range block {
				s.fireKey(string(w.key))
			}
		}
		return
	}
	for key := range s.keys {
		if k := backend.Key(key); c.points.find(k) != nil || c.cleared.contains(k) {
			s.fireKey(key)
		}
	}
}

// suspect says that another process may have committed.
func (s *watches) suspect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspects++
	s.wake()
}

// close fires all watches, those to come as well.
func (s *watches) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isClosed = true
	for key := range s.keys {
		s.fireKey(key)
	}
}

// poll looks for commits of other processes until the database ends.
func (s *watches) poll() {
	p := &poll{watches: s}
	defer p.close()
	timer := time.NewTimer(pollIdle)
	defer timer.Stop()
	for {
		var tick <-chan time.Time
		if s.isWatching() {
			timer.Reset(p.interval())
			tick = timer.C
		}
		select {
		case <-s.db.stopped:
			return
		case <-s.kick:
		case <-tick:
		}
		if !s.isWatching() {
			p.isStale = true
		} else if err := p.look(); err != nil && !isBusy(err) {
			p.lose(err)
		}
	}
}

func (s *watches) isWatching() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count > 0
}

// poll is the state of one polling goroutine.
type poll struct {
	watches *watches
	conn    *connection
	version *driver.Stmt
	moved   int64 // data_version at the last look
	isStale bool  // nobody looked for a time
}

func (p *poll) interval() time.Duration {
	switch ago, ok := p.watches.db.writer.sinceForeign(); {
	case ok && ago < sharedFor:
		return pollBusy
	case ok && ago < warmFor:
		return pollWarm
	}
	return pollIdle
}

// look compares the watched keys if another process may have committed since the last look.
func (p *poll) look() error {
	if err := p.connect(); err != nil {
		return err
	}
	isForeign, err := p.isForeign()
	if err != nil {
		return err
	}
	s := p.watches
	s.mu.Lock()
	if isForeign {
		s.suspects++
	}
	target := s.suspects
	isDue := s.compared != target
	s.mu.Unlock()
	if !isDue {
		return nil
	}
	if err := p.compare(); err != nil {
		return err
	}
	s.mu.Lock()
	s.compared = max(s.compared, target)
	s.mu.Unlock()
	return nil
}

func (p *poll) connect() error {
	if p.conn != nil {
		return nil
	}
	c, err := openConnection(p.watches.db.path)
	if err != nil {
		return err
	}
	p.conn = c
	p.version, err = c.conn.Prepare("PRAGMA data_version")
	p.isStale = true
	return err
}

// isForeign reports whether another process may have committed since the last look.
func (p *poll) isForeign() (bool, error) {
	moved, err := single(p.version)
	if err != nil {
		return false, err
	}
	isSame := moved == p.moved
	if isSame && !p.isStale {
		return false, nil
	}
	row, err := single(p.conn.sequence)
	if err != nil {
		return false, err
	}
	p.moved = moved
	w := p.watches.db.writer
	isForeign := row != w.owned.Load()
	if isForeign && !p.isStale {
		w.shared.Store(w.db.clock())
	}
	isForeign, p.isStale = isForeign || p.isStale, false
	return isForeign, nil
}

// single reads the one number of a statement.
func single(stmt *driver.Stmt) (int64, error) {
	ok, err := stmt.Step()
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, errNoSequence
	}
	n := stmt.ColumnInt64(0)
	return n, stmt.Reset()
}

// compare fires the watches whose keys are not as their watchers saw them.
func (p *poll) compare() (err error) {
	if err := drain(p.conn.begin); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drain(p.conn.end)) }()
	s := p.watches
	s.mu.Lock()
	keys := make([]string, 0, len(s.keys))
	for key := range s.keys {
		keys = append(keys, key)
	}
	s.mu.Unlock()
	for _, key := range keys {
		value, err := p.conn.value(backend.Key(key))
		if err != nil {
			return err
		}
		s.fireOthers(key, value)
	}
	return nil
}

// fireOthers fires the watches of key that saw another value.
func (s *watches) fireOthers(key string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.keys[key] {
		if !isSame(w.seen, value) {
			s.fireKey(key)
			return
		}
	}
}

// lose fires all watches, as the store can no longer tell, and begins anew with another connection.
func (p *poll) lose(error) {
	s := p.watches
	s.mu.Lock()
	for key := range s.keys {
		s.fireKey(key)
	}
	s.mu.Unlock()
	p.close()
}

func (p *poll) close() {
	if p.conn != nil {
		_ = p.conn.conn.Close() // it only read
		p.conn = nil
	}
}
