package sqlite

import (
	"errors"
	"time"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// The pause between two looks. A look costs little, but to wake up for it takes up to a tenth of a millisecond of
// processor time on a virtual machine: at pollIdle that is below a hundredth of a core.
const (
	pollBusy = time.Millisecond      // for busyFor after another process was seen to commit
	pollWarm = 5 * time.Millisecond  // for warmFor after
	pollIdle = 20 * time.Millisecond // where none was seen for long, as where there is none
	busyFor  = time.Second
	warmFor  = time.Minute

	// idleLooks is after how many looks that found commits, but none that is watched for, the pause is as for a warm store.
	idleLooks = 32
)

// poll finds the commits of other processes, by PRAGMA data_version on a connection that does nothing else, as long as
// there are watches. It moves with our own commits as well, so the sequence row tells whose it was: when it may have
// been another's, the watched keys are read and compared with what their watchers saw. It belongs to one goroutine.
type poll struct {
	db      *DB
	watches *occ.Watches
	conn    *connection
	version *driver.Stmt
	moved   int64 // data_version at the last look
	isStale bool  // nobody looked for a time
	vain    int   // looks in a row that found commits of others, and fired nothing
}

// poll looks for commits of other processes until the database ends.
func (db *DB) poll() {
	s := db.watches
	p := &poll{db: db, watches: s}
	defer p.close()
	timer := time.NewTimer(pollIdle)
	defer timer.Stop()
	for {
		var tick <-chan time.Time
		if s.IsWatching() {
			timer.Reset(p.interval())
			tick = timer.C
		}
		select {
		case <-db.stopped:
			return
		case <-s.Kick():
		case <-tick:
		}
		if !s.IsWatching() {
			p.isStale = true
		} else if err := p.look(); err != nil && !isBusy(err) {
			p.lose(err)
		}
	}
}

func (p *poll) interval() time.Duration {
	switch ago, ok := p.db.log.SinceForeign(); {
	case ok && ago < busyFor && p.vain < idleLooks:
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
	if isForeign {
		p.watches.Suspect()
	}
	keys := p.watches.Due()
	if len(keys) == 0 {
		return nil
	}
	if err := p.compare(keys); err != nil {
		p.watches.Suspect() // again
		return err
	}
	return nil
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
	isForeign := row != p.db.writer.owned.Load()
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
func (p *poll) compare(keys []string) (err error) {
	if err := drain(p.conn.begin); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drain(p.conn.end)) }()
	fired := false
	for _, key := range keys {
		value, err := p.conn.Value(backend.Key(key))
		if err != nil {
			return err
		}
		fired = p.watches.FireOthers(key, value) || fired
	}
	if p.vain++; fired {
		p.vain = 0
	}
	return nil
}

// lose fires all watches, as the store can no longer tell, and begins anew with another connection.
func (p *poll) lose(error) {
	p.watches.FireAll()
	p.close()
}

func (p *poll) close() {
	if p.conn != nil {
		_ = p.conn.conn.Close() // it only read
		p.conn = nil
	}
}
