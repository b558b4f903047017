package dserver_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

type Dawdle struct{}

// More turns than a store serves snapshots wait for one, and so do the program's own queries: neither fails. It is the
// default of a machine with 16 processors.
func TestMoreTurnsThanSnapshotsWait(t *testing.T) {
	if !isLong() {
		t.Skip("without LONG=1: it takes a quarter of a minute; the conformance suite has crowds of transactions")
	}
	const servers = 3000
	slow := counters.With(dserver.HandleCast(func(_ *dserver.Context, c *Counter, _ Dawdle) error {
		<-time.After(500 * time.Millisecond)
		c.Count++
		return nil
	}))
	eachRealStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		for i := range servers {
			must(t, slow.At(db, fmt.Sprint(i)).Cast(ctx, Dawdle{}))
		}
		run(t, dserver.Consumer{Turns: 16 * 128, Logger: zerolog.New(failing{t})}, db, slow)
		for i := range servers {
			eventually(t, "a message is handled", func() bool {
				n, err := dserver.Query(ctx, slow.At(db, fmt.Sprint(i)), Value{})
				return err == nil && n == 1
			})
		}
	})
}

// failing fails the test with what a consumer warns of.
type failing struct{ t *testing.T }

func (f failing) Write(line []byte) (int, error) { return len(line), nil }

func (f failing) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	if level >= zerolog.WarnLevel {
		f.t.Errorf("%s", line)
	}
	return len(line), nil
}
