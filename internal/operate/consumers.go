package operate

import (
	"context"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Consumer is a process that runs consumers, as its record has it, and what this process knows of it beside that.
type Consumer struct {
	Process string
	Record  tenant.ProcessRecord
	Damage  error // the record cannot be read

	Alive, Dead bool          // neither: it is not known
	Ahead       time.Duration // of its clock, at least
}

// Consumers yields the processes that run consumers, in the order of their names. One whose record cannot be read may run
// some.
func Consumers(ctx context.Context, db backend.Database) iter.Seq2[Consumer, error] {
	return func(yield func(Consumer, error) bool) {
		var records [][]byte
		read := func(tx backend.Reader, page []string) (err error) {
			records, err = recordsOf(tx, page)
			return err
		}
		err := eachPage(ctx, db, backend.NewKey(tenant.KeyProcess), read, func(page []string) bool {
			for i, id := range page {
				c, isOne := consumerOf(mailbox.Of(db), id, records[i])
				if isOne && !yield(c, nil) {
					return false
				}
			}
			return true
		})
		if err != nil {
			yield(Consumer{}, err)
		}
	}
}

// recordsOf reads the records of some processes.
func recordsOf(tx backend.Reader, ids []string) ([][]byte, error) {
	reads, records := make([]backend.Future[[]byte], len(ids)), make([][]byte, len(ids))
	for i, id := range ids {
		reads[i] = tx.Get(tenant.PresenceOf(id).Record())
	}
	for i := range reads {
		var err error
		if records[i], err = reads[i].Get(); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// consumerOf reads a record. It reports false for a process that runs no consumer: one that sends, or that was removed.
func consumerOf(self *mailbox.Process, id string, record []byte) (c Consumer, isOne bool) {
	if record == nil {
		return c, false
	}
	c.Process = id
	if c.Damage = tenant.DecodeRecord(record, &c.Record); c.Damage != nil {
		c.Record = tenant.ProcessRecord{}
	} else if !c.Record.Consumes {
		return c, false
	}
	life, ahead := self.Known(id, record)
	c.Alive, c.Dead, c.Ahead = life == mailbox.Alive, life == mailbox.Dead, ahead
	return c, true
}
