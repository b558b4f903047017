package operate

import (
	"context"
	"errors"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// Backlog is what waits for the servers of one type.
type Backlog struct {
	Servers int       // with something to do, or that wait for something
	Queued  int64     // messages on their queues
	Oldest  time.Time // when the oldest of those that are next was sent; zero when that is not known of any
	Overdue int       // timers and delayed messages that are due and not queued yet
	More    bool      // there is more than was looked at
}

// What a look at the backlog of a type reads at most, for each of its shards.
const (
	backlogServers = 128
	backlogDue     = 1000
)

// BacklogOf looks at what waits for the servers of a type, one shard after the other, each in a snapshot of its own.
func BacklogOf(ctx context.Context, db backend.Database, typ string) (b Backlog, err error) {
	for _, shard := range tenant.ShardsOf(typ) {
		var s Backlog
		err := db.Read(ctx, func(tx backend.ReadTx) (err error) {
			s, err = backlogIn(tx, typ, shard)
			return err
		})
		if err != nil {
			return Backlog{}, err
		}
		b.add(s)
	}
	return b, nil
}

func (b *Backlog) add(s Backlog) {
	b.Servers, b.Queued, b.Overdue, b.More = b.Servers+s.Servers, b.Queued+s.Queued, b.Overdue+s.Overdue, b.More || s.More
	if !s.Oldest.IsZero() && (b.Oldest.IsZero() || s.Oldest.Before(b.Oldest)) {
		b.Oldest = s.Oldest
	}
}

func backlogIn(tx backend.Reader, typ string, shard int64) (b Backlog, err error) {
	due := tx.GetRange(tenant.DueShard(shard).Below(), backend.RangeOptions{Limit: backlogDue, Snapshot: true})
	refs, more, err := waitingIn(tx, typ, shard)
	if err != nil {
		return b, err
	}
	b.Servers, b.More = len(refs), more
	if err := b.lookAt(tx, refs); err != nil {
		return b, err
	}
	pairs, err := due.Get()
	if err != nil {
		return b, err
	}
	now, isDue := time.Now().UnixMilli(), true
	for _, pair := range pairs { // of all types of the shard, in the order of their time
		ref, d, damage := tenant.ParseDue(tenant.DueShard(shard), pair.Key)
		if isDue = damage == nil && d.At <= now; isDue && ref.Type == typ && d.Kind != tenant.DueOnce {
			b.Overdue++
		}
	}
	b.More = b.More || isDue && len(pairs) == backlogDue
	return b, nil
}

// waitingIn is the servers of a shard that have a mark or are parked, each once.
func waitingIn(tx backend.Reader, typ string, shard int64) (refs []tenant.Ref, more bool, err error) {
	seen := map[tenant.Ref]struct{}{}
	for _, index := range []struct {
		rows backend.Key
		of   func(backend.Key) (tenant.Ref, bool, error)
	}{{tenant.ReadyShard(shard).Str(typ), ofMark}, {tenant.ParkedShard(shard).Str(typ), ofParked}} {
		pairs, err := tx.GetRange(index.rows.Below(), backend.RangeOptions{Limit: backlogServers, Snapshot: true}).Get()
		if err != nil {
			return nil, false, err
		}
		more = more || len(pairs) == backlogServers
		for _, pair := range pairs {
			ref, isOne, damage := index.of(pair.Key)
			if _, known := seen[ref]; damage != nil || !isOne || known { // Check reports what is damaged
				continue
			}
			seen[ref] = struct{}{}
			refs = append(refs, ref)
		}
	}
	return refs, more, nil
}

// lookAt reads how long the queues of servers are, and when what is next on them was sent. All is asked for before any of it is
// waited for.
func (b *Backlog) lookAt(tx backend.Reader, refs []tenant.Ref) error {
	type look struct {
		queue queue.Queue
		long  backend.Future[int64]
		next  [2]backend.Future[[]backend.KeyValue]
	}
	looks := make([]look, len(refs))
	for i, ref := range refs {
		q := tenant.KeysOf(ref).Queue()
		looks[i] = look{queue: q, long: q.Len(tx)}
		for lane := range looks[i].next {
			looks[i].next[lane] = tx.GetRange(q.Lane(queue.Lane(lane)), backend.RangeOptions{Limit: 1, Snapshot: true})
		}
	}
	for _, l := range looks {
		n, err := l.long.Get()
		if err != nil && !errors.Is(err, backend.ErrCorrupt) {
			return err
		}
		b.Queued += n
		for _, next := range l.next {
			pairs, err := next.Get()
			if err != nil {
				return err
			}
			b.age(l.queue, pairs)
		}
	}
	return nil
}

// age counts the first row of a lane. Of a large message, and of one that cannot be read, it does not say when it was sent. A
// timer's was sent when the timer was set, which says nothing of its wait.
func (b *Backlog) age(q queue.Queue, first []backend.KeyValue) {
	items, _, err := q.Parse(first)
	if err != nil || len(items) == 0 {
		return
	}
	env, err := tenant.DecodeEnvelope(items[0].Body)
	if err == nil && env.Sent != 0 && env.Timer == "" {
		b.add(Backlog{Oldest: time.UnixMilli(env.Sent)})
	}
}
