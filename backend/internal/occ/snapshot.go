package occ

import (
	"time"

	"github.com/dserver-go/dserver/backend"
)

// Snapshot is one state of the store, which begins with the first read.
type Snapshot interface {
	// Get reads a value, nil when there is none.
	Get(key backend.Key) ([]byte, error)

	// Scan reads pairs as o says, and reports whether a limit cut them.
	Scan(r backend.Range, o backend.RangeOptions) (pairs []backend.KeyValue, cut bool, err error)

	// IsOpen reports whether a read is still possible.
	IsOpen() bool

	// Finish ends the snapshot. Reads get cause from then on; the first cause stays.
	Finish(cause error)
}

// Starter is a Snapshot across a network: what is started together is fetched together, when the first is waited for.
// Waiting again returns the same.
type Starter interface {
	Snapshot

	StartGet(key backend.Key) (wait func() ([]byte, error))
	StartScan(r backend.Range, o backend.RangeOptions) (wait func() (pairs []backend.KeyValue, cut bool, err error))
}

// Base is where a snapshot stands among the commits of this process.
type Base struct {
	// Began is when the first read was made. Whatever the transaction waited for before does not count.
	Began time.Time

	newest  *Record // the newest commits when it began; what came later can be in its way
	isFixed bool    // what was read without the store is as newest left it
}

// Draw is called just before the store's snapshot begins: it draws the line between the commits that the snapshot is sure
// to hold and those that must be looked through.
func (b *Base) Draw(l *Log, now time.Time) {
	b.Began = now
	if !b.isFixed {
		b.newest = l.Newest()
	}
}

// Join is Draw for a snapshot that is another one's, too, whose base was drawn before it began.
func (b *Base) Join(other *Base) {
	b.Began = other.Began
	if !b.isFixed {
		b.newest = other.newest
	}
}

// Newest is the newest record that the snapshot is sure to hold, nil before Draw.
func (b *Base) Newest() *Record { return b.newest }

// Reached reports whether a limit of o ends the range after so many pairs and bytes.
func Reached(o backend.RangeOptions, pairs, bytes int) bool {
	return o.Limit > 0 && pairs >= o.Limit || o.Bytes > 0 && bytes >= o.Bytes
}
