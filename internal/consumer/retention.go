package consumer

import (
	"context"
	"slices"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// Types may have a bound for their dead letters. It is kept by a look now and then, and not by the commit that makes a letter, so
// that this stays blind and costs nothing: each consumer goes through the index of trouble, which has the servers with dead
// letters, and removes what is beyond the bound, in transactions of a hundred rows. Until the next look there may be more. Two
// consumers that sweep at once conflict on the letters, and count each once.
const sweepEvery = 10 * time.Minute

// sweepLetters keeps the bounds until ctx ends. A consumer without one has no such goroutine.
func (c *consumer) sweepLetters(ctx context.Context) {
	for wait := mailbox.Jittered(mailbox.LookInterval); ctx.Err() == nil; wait = mailbox.Jittered(sweepEvery) {
		sleep(ctx, wait)
		if err := c.sweepServers(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn().Err(err).Msg("dead letters beyond the bound of their type could not be removed")
			c.fail(err)
		}
	}
}

// keepsLetters reports whether some type has a bound.
func (c *consumer) keepsLetters() bool {
	for _, t := range c.types {
		if t.def.Settings.Letters.Is() {
			return true
		}
	}
	return false
}

// sweepServers goes through the index.
func (c *consumer) sweepServers(ctx context.Context) error {
	parse := func(_, key backend.Key) (tenant.Ref, bool, error) {
		ref, err := tenant.ParseTrouble(key)
		return ref, true, err
	}
	_, err := c.eachRow(ctx, backend.NewKey(tenant.KeyTrouble), nil, parse, func(ref tenant.Ref) error {
		def := c.types[ref.Type].def
		if !def.Settings.Letters.Is() {
			return nil
		}
		return c.sweepServer(ctx, def, ref)
	})
	return err
}

// sweepServer keeps the bound of one server, if it is run here.
func (c *consumer) sweepServer(ctx context.Context, def *turn.Definition, ref tenant.Ref) error {
	keys, total := tenant.KeysOf(ref), 0
	for more := true; more && ctx.Err() == nil; {
		swept := 0
		err := c.DB.Transact(ctx, func(tx backend.Tx) error {
			swept, more = 0, false
			pin, about := tx.Get(keys.Pin()), tx.Get(keys.Meta())
			label, err := pin.Get()
			if err != nil {
				return err
			}
			isCreated, err := tenant.IsThere(about)
			if err != nil {
				return err
			}
			if label == nil && !isCreated {
				label = []byte(def.Settings.Label)
			}
			if !slices.Contains(c.Labels, string(label)) {
				return nil
			}
			swept, more, err = keys.SweepLetters(tx, def.Settings.Letters, time.Now())
			return err
		})
		if err != nil {
			return err
		}
		total += swept
	}
	if total > 0 {
		c.log.Info().Stringer(logs.Server, ref).Int(logs.Letters, total).Msg("dead letters beyond the bound of their type were removed")
	}
	return nil
}
