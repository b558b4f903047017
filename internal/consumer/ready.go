package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Finding work. Whoever gives a server something to do sets its ready mark and rings the bell of its shard, in that
// same commit. A consumer watches the bells of its types' shards, of which there are some for each type and a fixed number in
// all (tenant/keys.go), and reads the marks of a shard when its bell rang: idle servers cost nothing. A mark is cleared only by
// a transaction for which a push meanwhile is a conflict: one that has read that the queue is empty (confirmEmpty, and the end
// of a killed server), that empties it (turn/part.go), or that parks the server. So no message is without a mark, or a row among
// those that are parked (parked.go), but where a server has halted; and no wait rests on a watch alone.
//
// Types share shards, and their consumers need not be the same. A bell that rings for types that are not run here costs a look
// that finds nothing, and after some of these in a row the next ones wait for a moment (noise).

// shards is where the servers of the types are that this consumer runs.
func (c *consumer) shards() []int64 {
	all := map[int64]struct{}{}
	for typ := range c.types {
		for _, shard := range tenant.ShardsOf(typ) {
			all[shard] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// patrol finds what no bell told of: each LookInterval it sees, in one transaction, in which shards there is something, and has
// these looked at. A consumer with nothing to do reads no more than that.
func (c *consumer) patrol(ctx context.Context) {
	sleep(ctx, mailbox.Jittered(mailbox.LookInterval)) // all shards are looked at when it starts
	for ctx.Err() == nil {
		if err := c.patrolOnce(ctx); err != nil {
			c.scanFailed(ctx, err)
			continue
		}
		sleep(ctx, mailbox.Jittered(mailbox.LookInterval))
	}
}

// maxPatrol is how many shards are seen in one transaction.
const maxPatrol = 64

// post is where those that look for work of a shard are told to look.
type post struct {
	marks, due chan struct{} // with a token when there is to be another look
	parked     atomic.Bool   // that look is at those that are parked, too: so is the first
}

func newPost() *post {
	p := &post{marks: make(chan struct{}, 1), due: make(chan struct{}, 1)}
	p.parked.Store(true)
	return p
}

func (c *consumer) patrolOnce(ctx context.Context) error {
	for shards := range slices.Chunk(c.shards(), maxPatrol) {
		var found [maxPatrol]struct{ marks, parked, due bool }
		err := c.DB.Read(ctx, func(tx backend.ReadTx) error {
			var reads [maxPatrol][3]backend.Future[[]backend.KeyValue]
			for i, shard := range shards {
				for j, r := range []backend.Range{
					c.ofTypes(tenant.ReadyShard(shard)), c.ofTypes(tenant.ParkedShard(shard)), tenant.DueShard(shard).Below(),
				} {
					reads[i][j] = tx.GetRange(r, backend.RangeOptions{Limit: 1})
				}
			}
			for i := range shards {
				f := &found[i]
				for j, is := range []*bool{&f.marks, &f.parked, &f.due} {
					rows, err := reads[i][j].Get()
					if err != nil {
						return err
					}
					*is = len(rows) > 0
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("dserver: see where there is something to do: %w", err)
		}
		for i, shard := range shards {
			post := c.posts[shard]
			if found[i].parked {
				post.parked.Store(true)
			}
			if found[i].marks || found[i].parked {
				leaveToken(post.marks)
			}
			if found[i].due {
				leaveToken(post.due)
			}
		}
	}
	return nil
}

// ofTypes is where rows below prefix may be of types that are run here.
func (c *consumer) ofTypes(prefix backend.Key) backend.Range {
	return backend.Range{Begin: prefix.Str(c.first), End: prefix.Str(c.last).Tree().End}
}

// scan looks for ready servers of one shard until ctx ends.
func (c *consumer) scan(ctx context.Context, shard int64) {
	var next time.Time // of the looks at those that wait
	var noise noise
	found := false // by a look since the bell rang
	parked := &c.posts[shard].parked
	b := &bystander{c: c, shard: shard}
	defer b.forget()
	for ctx.Err() == nil {
		b.begin()
		look, err := c.scanOnce(ctx, shard, b)
		if began := time.Now(); err == nil && !began.Before(next) && parked.Swap(false) {
			if err = c.scanParked(ctx, shard); err != nil {
				look.cancel()
			}
			next = time.Now().Add(parkedShare * time.Since(began))
		}
		if err != nil {
			b.forget()
			c.scanFailed(ctx, err)
			continue
		}
		if b.end(); b.soon > 0 { // the bell may ring all the time, and not for this consumer
			look.cancel()
			b.sleep(ctx)
			continue
		}
		if look.watch == nil { // it stands by no more
			continue
		}
		found = found || look.found > 0
		if c.pause(ctx, look, 0) {
			c.guess(shard)
			sleep(ctx, noise.after(found))
			found = false
		}
	}
}

// noise counts rings in a row for which nothing was found.
type noise int

// maxNoise bounds what a ring has to wait for, in milliseconds: so the pushes of a busy type cost the consumers of others some
// hundred looks a second, however many they are.
const maxNoise = 10

// after is how long to wait after a ring, when the looks since the one before it have found something, or have not.
func (n *noise) after(found bool) time.Duration {
	if found {
		*n = 0
		return 0
	}
	*n = min(*n+1, maxNoise)
	return time.Duration(*n-1) * time.Millisecond
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// guess lets the server of a shard whose queue was emptied last look at once, when the bell rings while it lingers: its
// sender may have the answer, and send again. So that message does not wait until the marks are read.
func (c *consumer) guess(shard int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ref := c.emptied[shard]
	if !c.runs(ref.Type) {
		return
	}
	if s := c.types[ref.Type].servers[ref.ID]; s != nil && s.marked && !c.closing {
		s.look = true
		c.schedule(s)
	}
}

// noteEmptied makes a server the guess of its shard.
func (c *consumer) noteEmptied(ref tenant.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.emptied[tenant.ShardOf(ref)] = ref
}

func (c *consumer) scanFailed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.log.Error().Err(err).Msg("the ready servers cannot be read")
	c.fail(err)
	select {
	case <-ctx.Done():
	case <-time.After(mailbox.RetryInterval):
	}
}

// look is what a scan of a shard has found.
type look struct {
	watch backend.Watch // on the shard's bell, from the snapshot of the first read; nil of one that stands by
	found int           // marks of types that are run here
	again chan struct{} // has a token when there is to be another look: of a post
	full  string        // a type whose line is too long, so that its marks were passed by; "" is none
}

func (l *look) cancel() {
	if l.watch != nil {
		l.watch.Cancel()
	}
}

// scanOnce wakes all ready servers of a shard, but those that are left to a peer; b is nil where none is.
func (c *consumer) scanOnce(ctx context.Context, shard int64, b *bystander) (l look, err error) {
	defer func() {
		if err != nil {
			l.cancel()
		}
	}()
	l.again = c.posts[shard].marks
	begin := func(tx backend.ReadTx) error {
		if b == nil || b.soon == 0 {
			l.watch = tx.Watch(tenant.Bell(shard))
		}
		return b.readNeeded(tx)
	}
	l.full, err = c.eachRow(ctx, tenant.ReadyShard(shard), begin, tenant.ParseMark, func(ref tenant.Ref) error {
		l.found++
		if isLeft, err := b.standsBy(ctx, ref); err != nil || isLeft {
			return err
		}
		if err := c.awaitRoom(ctx); err != nil {
			return err
		}
		c.wakeMarked(ref)
		return nil
	})
	return l, err
}

// parseRow finds the server of a row below prefix, and reports whether the row is one of those that are looked for. Its error
// is backend.ErrCorrupt.
type parseRow func(prefix, key backend.Key) (ref tenant.Ref, isOne bool, err error)

// eachRow calls fn with the server of each row below prefix, in pages, the first of which begins with begin, unless that is
// nil. Rows have a type and an id. It passes by the types that are not run here, those whose line is too long, of which it
// returns one, and rows that are damaged.
func (c *consumer) eachRow(
	ctx context.Context, prefix backend.Key, begin func(tx backend.ReadTx) error, parse parseRow, fn func(tenant.Ref) error,
) (full string, err error) {
	rest := c.ofTypes(prefix)
	for {
		var pairs []backend.KeyValue
		err := c.DB.Read(ctx, func(tx backend.ReadTx) (err error) {
			read := tx.GetRange(rest, backend.RangeOptions{Limit: tenant.MaxScan}) // on its way while begin waits for what it reads
			if begin != nil {
				if err := begin(tx); err != nil {
					return err
				}
			}
			pairs, err = read.Get()
			return err
		})
		if err != nil {
			return full, fmt.Errorf("dserver: look for servers that have something to do: %w", err)
		}
		begin = nil
		var passed *string // the type whose rows are passed by
		for _, pair := range pairs {
			ref, isOne, err := parse(prefix, pair.Key)
			if err != nil {
				c.noteDamage(pair.Key, err)
				continue
			}
			if passed != nil && *passed == ref.Type {
				continue
			}
			isLong := c.isLong(ref.Type)
			if isLong {
				full = ref.Type
			}
			if passed = nil; isLong || !c.runs(ref.Type) {
				passed = &ref.Type
			} else if isOne {
				if err := fn(ref); err != nil {
					return full, err
				}
			}
		}
		if len(pairs) < tenant.MaxScan {
			return full, nil
		}
		rest = rest.After(pairs[len(pairs)-1].Key)
		if passed != nil {
			rest = rest.After(prefix.Str(*passed))
		}
	}
}

// Why a mark is not cleared: a message came meanwhile, or one that came and was taken locked the server.
var (
	errNotEmpty = errors.New("dserver: the queue is not empty")
	errLocked   = errors.New("dserver: the server is locked")
)

// confirmEmpty clears what leads consumers to a server whose queue is empty and that is not locked: the ready mark, the
// claims, and the row of those that wait (parked.go). Otherwise it makes the server looked at. The mark of a locked server,
// or its row, is what leads others to it when the holder dies; the end of locked work that runs here makes us look by
// itself. Of a server without a state the queue's counters go as well, which would be all that is left of it.
func (t *visit) confirmEmpty() error {
	c, ref, keys, label := t.c, t.Ref, t.Keys, t.Label()
	err := c.DB.Transact(c.Base, func(tx backend.Tx) error {
		backend.CommitAsync(tx) // a mark that stays leads here again
		fence, version := tx.Get(keys.Fence()), tx.Get(keys.Version())
		empty, err := keys.Queue().IsEmpty(tx)
		if err != nil {
			return err
		}
		locked, err := fence.Get()
		if err != nil {
			return err
		}
		state, err := version.Get()
		if err != nil {
			return err
		}
		if !empty {
			return errNotEmpty
		}
		if locked != nil {
			return errLocked
		}
		tenant.ClearReady(tx, ref)
		if label != "" {
			tx.Clear(tenant.LabelRow(label, ref).Only())
		}
		if t.hasRow() { // which need not be that of its label
			t.clearRows(tx)
		}
		if state == nil {
			keys.ForgetQueue(tx)
		}
		return nil
	})
	if t.s.calm = err == nil; t.s.calm {
		c.caution.claims.Delete(ref)
		t.forgetRow(true)
	}
	switch {
	case errors.Is(err, errNotEmpty):
		c.Wake(ref)
	case errors.Is(err, errLocked):
		if !c.locks.IsHolding(ref) {
			c.Wake(ref)
		}
	default:
		return err
	}
	return nil
}

// pause waits for the bell of a look, for who asks for another, for room for what it passed by, a time unless it is zero, and ctx,
// whichever comes first, and reports whether it was the bell.
func (c *consumer) pause(ctx context.Context, l look, d time.Duration) bool {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	defer l.watch.Cancel()
	var room <-chan struct{}
	if l.full != "" {
		room = c.types[l.full].room
	}
	c.watches.Add(1)
	defer c.watches.Add(-1)
	select {
	case <-l.watch.Done():
		return true
	case <-l.again:
	case <-room:
	case <-ctx.Done():
	case <-over:
	}
	return false
}

// noteDamage notes a damaged row, and logs it the first time.
func (c *consumer) noteDamage(key backend.Key, damage error) {
	if _, known := c.damaged.LoadOrStore(string(key), nil); !known {
		c.log.Error().Err(damage).Stringer(logs.Key, key).Msg("a damaged row is left alone")
	}
}

func (c *consumer) isDamaged(key backend.Key) bool {
	_, damaged := c.damaged.Load(string(key))
	return damaged
}
