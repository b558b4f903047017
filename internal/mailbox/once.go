package mailbox

import (
	"context"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// AwaitOnce waits for the outcome of the message that was sent first with a key, of whose record this is the word.
func (p *Process) AwaitOnce(ctx context.Context, ref tenant.Ref, key, word string) (reply []byte, err error) {
	for {
		record, watch, err := p.lookOnce(ctx, ref, key, word)
		if err != nil {
			return nil, err
		}
		if record.Done {
			watch.Cancel()
			if record.Err != nil {
				return nil, record.Err
			}
			return record.Body, nil
		}
		timer := time.NewTimer(p.jittered(LookInterval))
		select {
		case <-watch.Done():
		case <-timer.C:
		case <-ctx.Done():
			err = fmt.Errorf("dserver: wait for the first message with key %q: %w", key, ctx.Err())
		}
		timer.Stop()
		watch.Cancel()
		if err != nil {
			return nil, err
		}
	}
}

// lookOnce reads the record of a word.
func (p *Process) lookOnce(ctx context.Context, ref tenant.Ref, key, word string) (tenant.OnceRecord, backend.Watch, error) {
	var record tenant.OnceRecord
	var watch backend.Watch
	at := tenant.KeysOf(ref).Once(key)
	err := p.db.Read(ctx, func(tx backend.ReadTx) error {
		record = tenant.OnceRecord{}
		watch = tx.Watch(at)
		value, err := tenant.ReadLarge(tx, at).Get()
		if err != nil {
			return err
		}
		if value != nil {
			err = tenant.DecodeRecord(value, &record)
		}
		if err == nil && (value == nil || record.Word != word) {
			err = tenant.Because(tenant.ErrKilled, "the record of key %q is gone with its server, or after its time", key)
		}
		return err
	})
	if err != nil {
		return record, nil, fmt.Errorf("dserver: %v: %w", ref, err)
	}
	return record, watch, nil
}
