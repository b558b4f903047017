package dserver

import (
	"maps"
	"slices"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

func (c *checker) servers(prefix backend.Key) error {
	return c.below(prefix, func(typ string) error {
		return c.below(prefix.Str(typ), func(id string) error { return c.server(Ref{typ, id}) })
	})
}

// server checks one server, each part in a snapshot of its own.
func (c *checker) server(ref Ref) error {
	parts := map[string]func(backend.Reader, Ref) error{
		keyHead:  c.head,
		keyQueue: c.queue,
		keyState: c.state,
		keyDead:  c.letters,
		keyLater: c.delayed,
		keySent:  c.sent,
		keyOnce:  c.onces,
		keyTimer: c.timers,
		keyWork:  c.work,
	}
	err := c.below(tenantOf(ref).key, func(name string) error {
		if parts[name] == nil {
			return c.note(ref, damage("keys below %q belong to nothing", name))
		}
		return nil
	})
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if err != nil {
			return err
		}
		err = c.note(ref, c.db.Read(c.ctx, func(tx backend.ReadTx) error { return parts[name](tx, ref) }))
	}
	return err
}

// head checks the records of a server.
func (*checker) head(tx backend.Reader, ref Ref) error {
	known := append([]string{recordVersion, recordMeta, recordKilled, recordLock, recordFence, recordBeat, recordOwner}, recordAttempts[:]...)
	keys := tenantOf(ref)
	pairs, err := tx.GetRange(keys.head().Tree(), backend.RangeOptions{Limit: headRecords}).Get()
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		if name, _ := pair.Key.CutPrefix(keys.head()); !slices.Contains(known, string(name)) {
			return damage("the record %v belongs to nothing", pair.Key)
		}
	}
	var h head
	if err := h.records(keys.head(), pairs); err != nil {
		return err
	}
	if h.version.IsZero() != (h.meta.Created == 0) {
		return damage("version %v, and created at %d", h.version, h.meta.Created)
	}
	for _, a := range h.attempts {
		if a == (attempts{}) || !h.killed.IsZero() {
			continue
		}
		if _, waits, err := keys.queue().Find(tx, a.Stamp); err != nil {
			return err
		} else if !waits {
			return damage("attempts of the message %v, which does not wait", backend.Versionstamp(a.Stamp))
		}
	}
	return nil
}

// queue checks that the messages can be found and counted. One that cannot be decoded is no damage: the turn sets it
// aside.
func (c *checker) queue(tx backend.Reader, ref Ref) error {
	var waiting int
	err := tenantOf(ref).queue().Check(tx, func(queue.Item) error {
		waiting++
		return nil
	})
	if err != nil || waiting == 0 {
		return err
	}
	mark, err := tx.Get(readyMark(ref)).Get()
	if err == nil && mark == nil {
		return damage("%d messages and no ready mark", waiting)
	}
	return err
}

// state decodes the state, when its type is known.
func (c *checker) state(tx backend.Reader, ref Ref) error {
	rows, err := loadRows(tx, tenantOf(ref), allRows(tenantOf(ref)))
	if err != nil {
		return err
	}
	version, err := tx.Get(tenantOf(ref).version()).Get()
	if err != nil {
		return err
	}
	if rows.Len() > 0 && version == nil {
		return damage("a state of %d rows without a version", rows.Len())
	}
	about, err := tx.Get(tenantOf(ref).meta()).Get()
	if err != nil || about == nil {
		return err
	}
	var m meta
	if err := decodeRecord(about, &m); err != nil {
		return err
	}
	if def := c.types[ref.Type]; def != nil && def.schema != nil && m.Schema <= def.version {
		_, err = state{version: backend.Versionstamp{1}, meta: m, rows: rows}.decode(def)
	}
	return err
}

// delayed checks the messages that were sent with After: each has its row in the index, or it would never come. Those of
// a server that was killed, which are not buried yet, need none.
func (c *checker) delayed(tx backend.Reader, ref Ref) error {
	killed, err := tenantOf(ref).killedAt(tx)
	if err != nil || !killed.IsZero() {
		return err
	}
	return c.indexed(tx, ref, keyLater, dueMessage, func(value []byte) (at int64, err error) {
		var d delayed
		return 0, decodeRecord(value, &d)
	})
}

// sent checks the stamps of messages that were sent with After: each has its message.
func (c *checker) sent(tx backend.Reader, ref Ref) error {
	keys := tenantOf(ref)
	return children(tx, keys.key.Str(keySent), func(word string) error {
		sent, message := tx.Get(keys.sent(word)), tx.Get(keys.delayed(word))
		value, err := sent.Get()
		if err != nil {
			return err
		}
		if _, err := backend.StampOf(value); err != nil {
			return err
		}
		if value, err = message.Get(); err == nil && value == nil {
			return damage("the stamp of the delayed message %q, which is not there", word)
		}
		return err
	})
}

// onces checks the idempotency keys: each has its row in the index, or it would stay for ever.
func (c *checker) onces(tx backend.Reader, ref Ref) error {
	return c.indexed(tx, ref, keyOnce, dueOnce, func(value []byte) (at int64, err error) {
		var r onceRecord
		err = decodeRecord(value, &r)
		return r.Until, err
	})
}

// timers checks the timers. One that has fired has its message on the queue instead of a row in the index.
func (c *checker) timers(tx backend.Reader, ref Ref) error {
	return c.records(tx, ref, keyTimer, func(_ string, value []byte) error {
		var r timerRecord
		return decodeRecord(value, &r)
	})
}

// indexed checks records that need a row in the index of what is due: at the time that read says, or at any if it is 0.
func (c *checker) indexed(tx backend.Reader, ref Ref, section string, kind dueKind, read func([]byte) (at int64, err error)) error {
	indexed := map[due]bool{}
	shard := dueShard(ref.Type, shardOf(ref.ID))
	pairs, err := tx.GetRange(shard.Below(), backend.RangeOptions{Snapshot: true}).Get()
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		if id, d, err := parseDue(shard, pair.Key); err == nil && id == ref.ID && d.Kind == kind {
			indexed[due{Name: d.Name}], indexed[due{Name: d.Name, At: d.At}] = true, true
		}
	}
	return c.records(tx, ref, section, func(name string, value []byte) error {
		at, err := read(value)
		if err != nil {
			return err
		}
		if !indexed[due{Name: name, At: at}] {
			return damage("%q below %q is not in the index of what is due", name, section)
		}
		return nil
	})
}

// records calls fn with each large value of a section of the server.
func (c *checker) records(tx backend.Reader, ref Ref, section string, fn func(name string, value []byte) error) error {
	prefix := tenantOf(ref).key.Str(section)
	return children(tx, prefix, func(name string) error {
		value, err := readLarge(tx, prefix.Str(name)).get()
		if err != nil {
			return err
		}
		return fn(name, value)
	})
}

// work checks that a message that was taken off the queue has its lock.
func (c *checker) work(tx backend.Reader, ref Ref) error {
	body, err := readLarge(tx, tenantOf(ref).lockedMessage()).get()
	if err != nil {
		return err
	}
	l, err := readLock(tx, tenantOf(ref))
	if err == nil && l.isHeld() != (body != nil) {
		return damage("the lock is held: %v, and its message is there: %v", l.isHeld(), body != nil)
	}
	return err
}

// letters checks the dead letters and their number.
func (c *checker) letters(tx backend.Reader, ref Ref) error {
	dead := tenantOf(ref).dead()
	counter, err := tx.Get(dead).Get()
	if err != nil {
		return err
	}
	count, err := backend.Counter(counter)
	if err != nil {
		return err
	}
	pairs, err := tx.GetRange(dead.Below(), backend.RangeOptions{}).Get()
	if err != nil {
		return err
	}
	var found int64
	for ; len(pairs) > 0; found++ {
		n, err := tenantOf(ref).letterRows(tx, pairs)
		if err != nil {
			return err
		}
		pairs = pairs[n:]
	}
	if found != count {
		return damage("%d dead letters, and a counter that says %d", found, count)
	}
	return nil
}

// letterRows reads the letter with which pairs begin, and returns how many of them are its.
func (t tenant) letterRows(tx backend.Reader, pairs []backend.KeyValue) (int, error) {
	stamp, ok := pairs[0].Key.CutStamp(t.dead())
	if !ok {
		return 0, damage("key %v is no dead letter", pairs[0].Key)
	}
	var l letter
	if err := decodeRecord(pairs[0].Value, &l); err != nil {
		return 0, err
	}
	n := 1
	for n < len(pairs) && pairs[n].Key.Compare(t.dead().Stamp(stamp).Int(int64(n-1))) == 0 {
		n++
	}
	if isWhole := n == 1; isWhole != (l.Item != nil) {
		return 0, damage("the dead letter %v has %d rows, and its item in it is %v", stamp, n, isWhole)
	}
	_, err := t.letterOf(tx, stamp, pairs[0].Value)
	return n, err
}
