package operate

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Trouble is a server that needs a person.
type Trouble struct {
	Ref    tenant.Ref
	Status Status
}

// MaxBacklog is how many messages may wait before that is trouble.
const MaxBacklog = 10_000

// isTrouble reports whether somebody has to look at it.
func (s Status) isTrouble() bool {
	retried := s.Attempts
	if s.Locked { // work begins with its first attempt
		retried--
	}
	return s.DeadLetters > 0 || s.Lock.isOverdue() || s.Halted || s.Paused || retried > 0 || s.Unlisted || s.Unhandled != "" || s.Unreadable != "" || s.Queued > MaxBacklog
}

// isOverdue reports whether the first attempt takes longer than it may: it does not return, or nobody does it. What is tried
// again is trouble without that.
func (l Lock) isOverdue() bool { return l.Limit > 0 && time.Since(l.Since) > l.Limit }

// Troubles yields the servers in trouble, of these types, or of all when none is named. It looks at those with dead letters, that halt
// or are paused, whose index it tidies up, and at those that have something to do or wait; not at the others, whatever their number.
func Troubles(ctx context.Context, db backend.Database, types ...string) iter.Seq2[Trouble, error] {
	return looked(ctx, db, types, Status.isTrouble)
}

// Active yields the servers that Troubles looks at: those that are in trouble, have something to do, or are locked.
func Active(ctx context.Context, db backend.Database, types ...string) iter.Seq2[Trouble, error] {
	return looked(ctx, db, types, func(Status) bool { return true })
}

// indexed is a place where servers are listed.
type indexed struct {
	prefix    backend.Key
	of        func(backend.Key) (ref tenant.Ref, isOne bool, err error)
	isTrouble bool // it is the index of trouble
}

// indexes is where all servers that are looked at are listed.
var indexes = []indexed{
	{backend.NewKey(tenant.KeyTrouble), ofTrouble, true},
	{backend.NewKey(tenant.KeyReady), ofMark, false},
	{backend.NewKey(tenant.KeyParked), ofParked, false},
	{backend.NewKey(tenant.KeyLabel), ofLabel, false},
}

// indexesOf is the same for a type.
func indexesOf(ctx context.Context, db backend.Database, typ string) ([]indexed, error) {
	all := []indexed{{backend.NewKey(tenant.KeyTrouble, typ), ofTrouble, true}}
	for _, shard := range tenant.ShardsOf(typ) {
		all = append(all, indexed{tenant.ReadyShard(shard).Str(typ), ofMark, false}, indexed{tenant.ParkedShard(shard).Str(typ), ofParked, false})
	}
	for label, err := range namesBelow(ctx, db, backend.NewKey(tenant.KeyLabel)) {
		if err != nil {
			return nil, err
		}
		all = append(all, indexed{tenant.LabelBell(label).Str(typ), ofLabel, false})
	}
	return all, nil
}

func looked(ctx context.Context, db backend.Database, types []string, takes func(Status) bool) iter.Seq2[Trouble, error] {
	return func(yield func(Trouble, error) bool) {
		seen := map[tenant.Ref]struct{}{}
		look := func(ref tenant.Ref, isTrouble bool) (goesOn bool, err error) {
			if _, known := seen[ref]; known {
				return true, nil
			}
			seen[ref] = struct{}{}
			status, err := Server{DB: db, Ref: ref}.Status(ctx)
			if err == nil && isTrouble && status.DeadLetters == 0 && !status.Halted && !status.Paused {
				err = db.Transact(ctx, func(tx backend.Tx) error { return tenant.ClearTrouble(tx, ref) })
			}
			if err != nil || !takes(status) {
				return err == nil, err
			}
			return yield(Trouble{ref, status}, nil), nil
		}
		all := indexes
		for i := 0; i < max(1, len(types)); i++ {
			var err error
			if len(types) > 0 {
				all, err = indexesOf(ctx, db, types[i])
			}
			goesOn := err == nil
			for _, index := range all {
				if !goesOn {
					break
				}
				goesOn, err = eachServer(ctx, db, index.prefix, index.of, func(ref tenant.Ref) (bool, error) { return look(ref, index.isTrouble) })
			}
			if err != nil {
				yield(Trouble{}, fmt.Errorf("dserver: look for trouble: %w", err))
			}
			if !goesOn {
				return
			}
		}
	}
}

// eachServer calls fn with the server of each row below prefix, until it returns false, in pages.
func eachServer(
	ctx context.Context, db backend.Database, prefix backend.Key,
	of func(backend.Key) (tenant.Ref, bool, error), fn func(tenant.Ref) (bool, error),
) (goesOn bool, err error) {
	for rest := prefix.Below(); ; {
		var pairs []backend.KeyValue
		err := db.Read(ctx, func(tx backend.ReadTx) (err error) {
			pairs, err = tx.GetRange(rest, backend.RangeOptions{Limit: tenant.MaxScan, Snapshot: true}).Get()
			return err
		})
		if err != nil {
			return false, err
		}
		for _, pair := range pairs {
			ref, isOne, err := of(pair.Key)
			if err != nil || !isOne { // damage is Check's
				continue
			}
			if goesOn, err := fn(ref); err != nil || !goesOn {
				return false, err
			}
		}
		if len(pairs) < tenant.MaxScan {
			return true, nil
		}
		rest = rest.After(pairs[len(pairs)-1].Key)
	}
}

func ofTrouble(key backend.Key) (tenant.Ref, bool, error) {
	ref, err := tenant.ParseTrouble(key)
	return ref, true, err
}

// ofMark finds the server of a ready mark, and ofParked that of a row of those that wait.
func ofMark(key backend.Key) (tenant.Ref, bool, error) {
	shard, err := shardOf(key)
	if err != nil {
		return tenant.Ref{}, false, err
	}
	return tenant.ParseMark(tenant.ReadyShard(shard), key)
}

func ofParked(key backend.Key) (tenant.Ref, bool, error) {
	shard, err := shardOf(key)
	if err != nil {
		return tenant.Ref{}, false, err
	}
	ref, err := tenant.ParseParked(tenant.ParkedShard(shard), key)
	return ref, true, err
}

// ofLabel finds the server of a row below a label's bell; the bell itself is none.
func ofLabel(key backend.Key) (tenant.Ref, bool, error) {
	elements, err := key.Elements()
	if err != nil || len(elements) < 2 {
		return tenant.Ref{}, false, err
	}
	label, isLabel := elements[1].(string)
	if !isLabel || len(elements) == 2 {
		return tenant.Ref{}, false, nil
	}
	ref, err := tenant.ParseLabelRow(tenant.LabelBell(label), key)
	return ref, true, err
}

func shardOf(key backend.Key) (int64, error) {
	elements, err := key.Elements()
	if err != nil {
		return 0, err
	}
	if len(elements) > 1 {
		if shard, isShard := elements[1].(int64); isShard {
			return shard, nil
		}
	}
	return 0, damage("%v has no shard", key)
}
