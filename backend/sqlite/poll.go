package sqlite

import (
	"errors"
	"sync"
	"time"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend/internal/occ"
)

// The pause between two looks. Who commits gives notice of it where that can be (notices_linux.go), and the look comes with
// the notice; what notices miss is found all the same, in pauses of pollTrust. Elsewhere, and beside a process of an older
// release, the pauses are shorter.
//
// A look costs little, but to wake up for it takes up to a tenth of a millisecond of processor time on a virtual machine: at
// maxRest that is below a hundredth of a core. So who looks in vain, as beside commits that are all its own or change nothing
// that is watched for, takes no notice for a share of the time since it began to, until a look finds something. So whoever has
// waited for a time waits for a vainShare of it more at most, and a burst of commits costs each process that it is not for some
// forty looks, and then one each maxRest.
const (
	pollTrust = 100 * time.Millisecond // where notices come
	pollBusy  = time.Millisecond       // for busyFor after another process was seen to commit
	pollWarm  = 5 * time.Millisecond   // for warmFor after
	pollIdle  = 20 * time.Millisecond  // where none was seen for long, as where there is none
	busyFor   = time.Second
	warmFor   = time.Minute
	vainShare = 4
	maxRest   = 12 * time.Millisecond
	vainFor   = 32 * time.Millisecond // in which who looks in vain without notices looks as often as ever

	// maxMissed commits of others in a row that were found without a notice, and notices are not relied on for deafFor.
	maxMissed = 3
	deafFor   = time.Minute
)

// poll finds the commits of other processes, by PRAGMA data_version on a connection that does nothing else, as long as
// there are watches. It moves with our own commits as well, so the sequence row tells whose it was: when it may have
// been another's, the watched keys are read and compared with what their watchers saw.
//
// Two goroutines look: that of the notices, which so has no other to wake up, and that of all other reasons.
type poll struct {
	db      *DB
	watches *occ.Watches

	mu      sync.Mutex // guards the rest
	isAwake bool       // there was a watch a short time ago
	conn    *connection
	version *driver.Stmt
	moved   int64 // data_version at the last look
	isStale bool  // nobody looked for a time
	vain    vain
	notices *notices
	looked  time.Time
	heard   heard         // what the look in hand is for
	missed  int           // commits of others in a row that were found without a notice
	deaf    time.Time     // until then notices are not relied on
	trusts  time.Duration // pollTrust, but in tests
}

// vain is the looks that found a commit, or had notice of one, and fired nothing, one soon after the other.
type vain struct{ first, last time.Time }

// add adds one. Where there was none for a while, it is the first: beside a store where little happens none is.
func (v *vain) add(now time.Time) {
	if now.Sub(v.last) > pollTrust {
		v.first = now
	}
	v.last = now
}

func (v *vain) lasted() time.Duration { return v.last.Sub(v.first) }

// heard is why a look comes.
type heard int

const (
	heardKick    heard = iota // somebody waits for the look
	heardNotice               // of a commit
	heardNothing              // for the whole of a pause in which notices were taken
)

func newPoll(db *DB, watches *occ.Watches) *poll {
	return &poll{db: db, watches: watches, notices: &notices{}, trusts: pollTrust}
}

// run looks for commits of other processes until the database ends.
func (p *poll) run() {
	defer p.end()
	timer := time.NewTimer(pollIdle)
	defer timer.Stop()
	for isAsked := false; ; {
		var tick <-chan time.Time
		if due, isAwake := p.due(); isAwake {
			if !isAsked {
				p.listen()
				isAsked = true
			}
			timer.Reset(due)
			tick = timer.C
		}
		reason := heardKick
		select {
		case <-p.db.stopped:
			return
		case <-p.watches.Kick():
		case <-tick:
			reason = heardNothing
		}
		p.heed(reason)
	}
}

func (p *poll) listen() {
	n := listen(p.db.files.log(), func() (rest time.Duration) {
		p.db.notice()
		return p.heed(heardNotice)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notices = n
	p.db.hears.Store(n.come)
}

// heed looks, and returns for how long no notice is to be taken after it. A pause in which there was no watch puts the poll
// to sleep, until there is one.
func (p *poll) heed(reason heard) (rest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case reason == heardKick && !p.isAwake:
		p.isAwake = true
		p.watches.Awaken()
	case reason == heardNothing && time.Since(p.looked) < p.interval(): // there was a notice meanwhile
		return 0
	case reason == heardNothing && p.watches.Doze():
		p.isAwake = false
	}
	if !p.isAwake {
		p.isStale = true
		return 0
	}
	p.heard, p.looked = reason, time.Now()
	if err := p.look(); err != nil && !isBusy(err) {
		p.lose(err)
	}
	rest = p.rest()
	p.db.hears.Store(p.notices.come && rest == 0)
	return rest
}

// due is when to look again without a notice, if at all.
func (p *poll) due() (pause time.Duration, isAwake bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.interval()-time.Since(p.looked), 0), p.isAwake
}

// rest is for how long after a look no notice is taken.
func (p *poll) rest() (rest time.Duration) {
	rest = p.vain.lasted() / vainShare
	if rest < pollBusy || !p.notices.come {
		return 0
	}
	return min(rest, maxRest)
}

func (p *poll) interval() time.Duration {
	if p.notices.come && time.Now().After(p.deaf) {
		return p.trusts
	}
	switch ago, ok := p.db.log.SinceForeign(); {
	case ok && ago < busyFor && p.vain.lasted() < vainFor:
		return pollBusy
	case ok && ago < warmFor:
		return pollWarm
	}
	return pollIdle
}

// look compares the watched keys if another process may have committed since the last look.
func (p *poll) look() (err error) {
	if err := p.connect(); err != nil {
		return err
	}
	keys := p.watches.Due() // before the snapshot, which so has what made them due
	isForeign := false
	defer func() {
		if err != nil && (isForeign || len(keys) > 0) {
			p.watches.Suspect() // again
		}
	}()
	if err := drain(p.conn.begin); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drain(p.conn.end)) }()
	if isForeign, err = p.isForeign(); err != nil {
		return err
	}
	if isForeign {
		keys = p.watches.Found()
		p.trust()
	}
	if isForeign || p.heard == heardNotice {
		p.vain.add(time.Now())
	}
	return p.compare(keys)
}

// trust notes that a commit of another process was found, with a notice of it or without.
func (p *poll) trust() {
	switch p.heard {
	case heardNotice:
		p.missed = 0
	case heardNothing:
		p.missed++
	}
	if p.missed >= maxMissed {
		p.deaf, p.missed = time.Now().Add(deafFor), 0
	}
}

func (p *poll) connect() error {
	if p.conn != nil {
		return nil
	}
	c, err := p.db.openConnection()
	if err != nil {
		return err
	}
	if p.version, err = c.conn.Prepare("PRAGMA data_version"); err != nil {
		return errors.Join(err, c.conn.Close())
	}
	p.conn, p.isStale = c, true
	return nil
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
	owned := p.db.writer.owned.Load()
	isForeign := row != owned
	if row > owned { // else it may be that our own commit came after this look began
		p.db.writer.shares.foreign()
	}
	if isForeign && !p.isStale {
		p.db.log.SawForeign()
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
func (p *poll) compare(keys []string) error {
	fired := false
	err := p.conn.values(keys, func(key string, value []byte) {
		fired = p.watches.FireOthers(key, value) || fired
	})
	if fired {
		p.vain = vain{}
	}
	return err
}

// lose fires all watches, as the store can no longer tell, and begins anew with another connection.
func (p *poll) lose(error) {
	p.watches.FireAll()
	p.close()
}

func (p *poll) end() {
	p.notices.close() // with which no look comes any more
	p.close()
}

func (p *poll) close() {
	if p.conn != nil {
		_ = p.conn.conn.Close() // it only read
		p.conn = nil
	}
}
