package operate

import (
	"errors"
	"maps"
	"slices"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
	"github.com/dserver-go/dserver/queue"
)

// ofServer is what is checked of a server, by the name below its key. Each part reads one snapshot.
func (c *checker) ofServer() map[string]func(*glimpse, tenant.Ref) error {
	return map[string]func(*glimpse, tenant.Ref) error{
		tenant.KeyHead:    c.head,
		tenant.KeyQueue:   c.queue,
		tenant.KeyState:   c.state,
		tenant.KeyDead:    c.letters,
		tenant.KeyFailure: c.failures,
		tenant.KeyLater:   c.delayed,
		tenant.KeySent:    c.sent,
		tenant.KeyOnce:    c.onces,
		tenant.KeyImport:  c.importing,
		tenant.KeyTimer:   c.timers,
		tenant.KeyWork:    c.work,
	}
}

// partNames is the names of ofServer in their order.
var partNames = slices.Sorted(maps.Keys((*checker)(nil).ofServer()))

func strange(name string) error { return damage("keys below %q belong to nothing", name) }

// server checks one server that is too large for a page.
func (c *checker) server(ref tenant.Ref) error {
	err := c.below(tenant.KeysOf(ref).Key, func(name string) error {
		if c.parts[name] == nil {
			return c.note(place{ref: ref}, strange(name))
		}
		return nil
	})
	for _, name := range partNames {
		if err != nil {
			return err
		}
		err = c.note(place{ref, name}, c.part(name, ref))
	}
	return err
}

// part checks a part of a large server: in pages, each in a snapshot of its own, where each record stands for itself, and
// else in one. The queue and the dead letters have a counter; where they are too many for one snapshot nothing is said
// of their number.
func (c *checker) part(name string, ref tenant.Ref) error {
	s, isSection := c.section(name, ref)
	if isSection && name != tenant.KeyDead {
		return s.walk(c.read)
	}
	err := c.read(func(g *glimpse) error { return c.parts[name](g, ref) })
	switch {
	case !errors.Is(err, backend.ErrTooOld):
		return err
	case isSection:
		return s.walk(c.read)
	case name == tenant.KeyQueue:
		return c.queueInPages(ref)
	}
	return err
}

func (c *checker) queueInPages(ref tenant.Ref) error {
	for last := (queue.Item{}); ; {
		var items []queue.Item
		err := c.read(func(g *glimpse) (err error) {
			items, err = tenant.KeysOf(ref).Queue().Read(g, last, checkRows)
			return err
		})
		if err != nil || len(items) == 0 {
			return err
		}
		last = items[len(items)-1]
	}
}

// head checks the records of a server.
func (*checker) head(g *glimpse, ref tenant.Ref) error {
	known := append([]string{tenant.RecordVersion, tenant.RecordMeta, tenant.RecordKilled, tenant.RecordLock, tenant.RecordFence, tenant.RecordBeat, tenant.RecordOwner, tenant.RecordPin, tenant.RecordPaused, tenant.RecordUnread}, tenant.RecordAttempts[:]...)
	keys := tenant.KeysOf(ref)
	pairs, err := g.GetRange(keys.Head().Tree(), backend.RangeOptions{Limit: tenant.HeadRecords}).Get()
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		if name, _ := pair.Key.CutPrefix(keys.Head()); !slices.Contains(known, string(name)) {
			return damage("the record %v belongs to nothing", pair.Key)
		}
	}
	var h tenant.Head
	if err := h.Records(keys.Head(), pairs); err != nil {
		return err
	}
	if h.Version.IsZero() != (h.Meta.Created == 0) {
		return damage("version %v, and created at %d", h.Version, h.Meta.Created)
	}
	if h.Attempts[0].Halts || h.Attempts[1].Halts || h.Lock.Record.Halted || h.Paused.Is() {
		g.expect(noTroubleRow(damage("it has halted or is paused, and has no row in the index of trouble"), ref), tenant.TroubleRow(ref))
	}
	for lane, a := range h.Attempts {
		if a == (tenant.Attempts{}) || !h.Killed.IsZero() {
			continue
		}
		if _, waits, err := keys.Queue().Find(g, a.Stamp); err != nil {
			return err
		} else if !waits {
			return vainAttempts(damage("attempts of the message %v, which does not wait", backend.Versionstamp(a.Stamp)), ref, queue.Lane(lane), a.Stamp)
		}
	}
	return nil
}

// importing reports an import that has not ended.
func (*checker) importing(g *glimpse, ref tenant.Ref) error {
	begun, err := tenant.IsThere(g.Get(tenant.KeysOf(ref).Importing()))
	if err == nil && begun {
		err = damage("its import has not ended: run it again, or kill the server")
	}
	return err
}

// failures checks why messages failed: each is of attempts that are counted, or of a lock that is held.
func (*checker) failures(g *glimpse, ref tenant.Ref) error {
	keys := tenant.KeysOf(ref)
	pairs, err := g.GetRange(keys.Key.Str(tenant.KeyFailure).Tree(), backend.RangeOptions{Limit: tenant.HeadRecords, Snapshot: true}).Get()
	if err != nil || len(pairs) == 0 {
		return err
	}
	records, err := g.GetRange(keys.Head().Tree(), backend.RangeOptions{Limit: tenant.HeadRecords, Snapshot: true}).Get()
	if err != nil {
		return err
	}
	var h tenant.Head
	if err := h.Records(keys.Head(), records); err != nil {
		return err
	}
	for _, pair := range pairs {
		rest, _ := pair.Key.CutPrefix(keys.Key.Str(tenant.KeyFailure))
		of, isPlace, isLock := tenant.FailurePlace(rest)
		var f tenant.Failure
		switch err := tenant.DecodeRecord(pair.Value, &f); {
		case !isPlace:
			return damage("the record %v belongs to nothing", pair.Key)
		case err != nil:
			return vainFailure(err, ref, pair)
		case isLock && (!h.Lock.IsHeld() || h.Lock.Record.Stamp != f.Stamp), !isLock && h.Attempts[of].Stamp != f.Stamp:
			return vainFailure(damage("why the message %v failed, which has no attempts", backend.Versionstamp(f.Stamp)), ref, pair)
		}
	}
	return nil
}

// queue checks that the messages can be found and counted. One that cannot be decoded is no damage: the turn sets it
// aside.
func (c *checker) queue(g *glimpse, ref tenant.Ref) error {
	var waiting int
	err := tenant.KeysOf(ref).Queue().Check(g, func(queue.Item) error {
		waiting++
		return nil
	})
	if isFinding(err) {
		return c.queueFlaw(g, ref, err)
	}
	if err != nil || waiting == 0 {
		return err
	}
	return c.lead(g, ref, noMark(damage("%d messages and no ready mark", waiting), ref))
}

// lead expects something that leads consumers to a server, unless nothing can be done there before that is set again.
func (c *checker) lead(g *glimpse, ref tenant.Ref, missing error) error {
	var h tenant.Head
	err := tenant.ReadHead(g, tenant.KeysOf(ref), &h, tenant.Known{}, true)
	if err == nil && !h.Halts() {
		g.expect(missing, tenant.ReadyMark(ref), tenant.ParkedRow(ref, h.Pin.Label), tenant.LabelRow(h.Pin.Label, ref))
	}
	return err
}

// state decodes the state, when its type is known.
func (c *checker) state(g *glimpse, ref tenant.Ref) error {
	rows, err := turn.LoadRows(g, tenant.KeysOf(ref), turn.AllRows(tenant.KeysOf(ref)))
	if err != nil {
		return err
	}
	version, err := g.Get(tenant.KeysOf(ref).Version()).Get()
	if err != nil {
		return err
	}
	if rows.Len() > 0 && version == nil {
		return damage("a state of %d rows without a version", rows.Len())
	}
	about, err := g.Get(tenant.KeysOf(ref).Meta()).Get()
	if err != nil || about == nil {
		return err
	}
	var m tenant.Meta
	if err := tenant.DecodeRecord(about, &m); err != nil {
		return err
	}
	if def := c.types[ref.Type]; def != nil && def.Form != nil && m.Schema <= def.Version {
		_, err = turn.State{Known: tenant.Known{Version: backend.Versionstamp{1}, Meta: m}, Rows: rows}.Decode(def)
	}
	return err
}

// section is a part of a server with a record for each of many names.
type section struct {
	prefix backend.Key
	owner  func(key backend.Key) (backend.Key, error)
	check  func(g *glimpse, owner backend.Key, rows []backend.KeyValue) error
	begin  func(g *glimpse) error // a page; it may be nil
}

// walk checks all records, in pages, each of which is a call of read.
func (s section) walk(read func(func(*glimpse) error) error) error {
	for rest := s.prefix.Below(); !rest.IsEmpty(); {
		var next backend.Range
		err := read(func(g *glimpse) (err error) {
			next, err = s.page(g, rest)
			return err
		})
		if err != nil {
			return err
		}
		rest = next
	}
	return nil
}

// page checks the first records of a range, and returns the rest of it.
func (s section) page(g *glimpse, rest backend.Range) (backend.Range, error) {
	if s.begin != nil {
		if err := s.begin(g); err != nil {
			return rest, err
		}
	}
	pairs, all, err := g.page(rest)
	if err != nil {
		return rest, err
	}
	for isFirst := true; len(pairs) > 0; isFirst = false {
		owner, err := s.owner(pairs[0].Key)
		if err != nil {
			return rest, err
		}
		n := countBelow(owner, pairs)
		rows := pairs[:n]
		if n == len(pairs) && !all { // it may not be whole
			if !isFirst {
				return rest, nil
			}
			if rows, err = g.GetRange(owner.Tree(), backend.RangeOptions{Snapshot: true}).Get(); err != nil {
				return rest, err
			}
		}
		if err := s.check(g, owner, rows); err != nil {
			return rest, err
		}
		rest.Begin, pairs = owner.Tree().End, pairs[n:]
	}
	if all {
		return backend.Range{}, nil
	}
	return rest, nil
}

// countBelow is how many of the pairs, which begin at key, are it or below it.
func countBelow(key backend.Key, pairs []backend.KeyValue) int {
	end := key.Tree().End
	n, _ := slices.BinarySearchFunc(pairs, end, func(p backend.KeyValue, k backend.Key) int { return p.Key.Compare(k) })
	return n
}

// section finds the records of a part that has a section.
func (c *checker) section(name string, ref tenant.Ref) (section, bool) {
	if name == tenant.KeyDead {
		return c.letterSection(ref, new(int64)), true
	}
	checks := map[string]func(g *glimpse, ref tenant.Ref, name string, value []byte) error{
		tenant.KeyLater: checkDelayed, tenant.KeySent: checkSent, tenant.KeyOnce: checkOnce, tenant.KeyTimer: checkTimer,
	}
	check, ok := checks[name]
	prefix := tenant.KeysOf(ref).Key.Str(name)
	s := section{
		prefix: prefix,
		owner: func(key backend.Key) (backend.Key, error) {
			child, err := tenant.ChildOf(prefix, key)
			return prefix.Str(child), err
		},
		check: func(g *glimpse, owner backend.Key, rows []backend.KeyValue) error {
			child, err := tenant.ChildOf(prefix, owner)
			if err != nil {
				return err
			}
			if rows[0].Key.Compare(owner) != 0 {
				return headless(damage("rows of %v, which has lost its first one", owner), ref, owner)
			}
			value, err := tenant.LargeRead{Key: owner, Pairs: backend.Ready(rows, nil)}.Get()
			if err != nil {
				return err
			}
			return check(g, ref, child, value)
		},
	}
	if name == tenant.KeyLater {
		s.begin = func(g *glimpse) (err error) {
			g.killed, err = tenant.KeysOf(ref).KilledAt(g)
			return err
		}
	}
	return s, ok
}

// walk checks a section in one snapshot.
func (c *checker) walk(g *glimpse, ref tenant.Ref, name string) error {
	s, _ := c.section(name, ref)
	return s.walk(g.same)
}

// delayed checks the messages that were sent with After: each has its row in the index, or it would never come. Those of
// a server that was killed, which are not buried yet, need none.
func (c *checker) delayed(g *glimpse, ref tenant.Ref) error { return c.walk(g, ref, tenant.KeyLater) }

func checkDelayed(g *glimpse, ref tenant.Ref, word string, value []byte) error {
	var d tenant.Delayed
	if err := tenant.DecodeRecord(value, &d); err != nil || !g.killed.IsZero() {
		return err
	}
	return g.expectDue(ref, tenant.Due{At: d.At, Kind: tenant.DueMessage, Name: word}, tenant.KeyLater)
}

// sent checks the stamps of messages that were sent with After: each has its message.
func (c *checker) sent(g *glimpse, ref tenant.Ref) error { return c.walk(g, ref, tenant.KeySent) }

func checkSent(g *glimpse, ref tenant.Ref, word string, value []byte) error {
	g.expect(vainStamp(damage("the stamp of the delayed message %q, which is not there", word), ref, word), tenant.KeysOf(ref).Delayed(word))
	_, err := backend.StampOf(value)
	return err
}

// onces checks the idempotency keys: each has its row in the index, or it would stay for ever.
func (c *checker) onces(g *glimpse, ref tenant.Ref) error { return c.walk(g, ref, tenant.KeyOnce) }

func checkOnce(g *glimpse, ref tenant.Ref, key string, value []byte) error {
	var r tenant.OnceRecord
	if err := tenant.DecodeRecord(value, &r); err != nil {
		return err
	}
	return g.expectDue(ref, tenant.Due{At: r.Until, Kind: tenant.DueOnce, Name: key}, tenant.KeyOnce)
}

// timers checks the timers. One that has fired has its message on the queue instead of a row in the index.
func (c *checker) timers(g *glimpse, ref tenant.Ref) error { return c.walk(g, ref, tenant.KeyTimer) }

func checkTimer(_ *glimpse, _ tenant.Ref, _ string, value []byte) error {
	var r tenant.TimerRecord
	return tenant.DecodeRecord(value, &r)
}

// work checks that a message that was taken off the queue has its lock.
func (c *checker) work(g *glimpse, ref tenant.Ref) error {
	body, err := tenant.ReadLarge(g, tenant.KeysOf(ref).LockedMessage()).Get()
	if err != nil {
		return err
	}
	l, err := tenant.ReadLock(g, tenant.KeysOf(ref))
	if err == nil && l.IsHeld() != (body != nil) {
		return damage("the lock is held: %v, and its message is there: %v", l.IsHeld(), body != nil)
	}
	return err
}

// letters checks the dead letters and their number.
func (c *checker) letters(g *glimpse, ref tenant.Ref) error {
	dead := tenant.KeysOf(ref).Dead()
	counter, err := g.Get(dead).Get()
	if err != nil {
		return err
	}
	count, err := backend.Counter(counter)
	if err != nil {
		return err
	}
	var found int64
	if err := c.letterSection(ref, &found).walk(g.same); err != nil {
		return err
	}
	if count > 0 {
		g.expect(noTroubleRow(damage("%d dead letters, and no row in the index of trouble", count), ref), tenant.TroubleRow(ref))
	}
	if found != count {
		return c.lettersUncounted(damage("%d dead letters, and a counter that says %d", found, count), ref)
	}
	return nil
}

// letterSection counts the letters as it checks them.
func (c *checker) letterSection(ref tenant.Ref, found *int64) section {
	keys := tenant.KeysOf(ref)
	return section{
		prefix: keys.Dead(),
		owner: func(key backend.Key) (backend.Key, error) {
			if rest, _ := key.CutPrefix(keys.Dead()); len(rest) >= stampElement {
				if stamp, ok := key[:len(keys.Dead())+stampElement].CutStamp(keys.Dead()); ok {
					return keys.Dead().Stamp(stamp), nil
				}
			}
			return nil, damage("key %v is no dead letter", key)
		},
		check: func(g *glimpse, owner backend.Key, rows []backend.KeyValue) error {
			*found++
			return checkLetter(ref, g, owner, rows)
		},
	}
}

// stampElement is how many bytes a stamp takes in a key.
var stampElement = len(backend.Key(nil).Stamp(backend.Versionstamp{}))

// checkLetter checks the rows of one letter.
func checkLetter(ref tenant.Ref, g *glimpse, owner backend.Key, rows []backend.KeyValue) error {
	t := tenant.KeysOf(ref)
	stamp, ok := owner.CutStamp(t.Dead())
	switch {
	case !ok:
		return damage("key %v is no dead letter", rows[0].Key)
	case rows[0].Key.Compare(owner) != 0:
		return lostLetter(damage("key %v is no dead letter, but rows of one", rows[0].Key), ref, stamp)
	}
	var l tenant.Letter
	if err := tenant.DecodeRecord(rows[0].Value, &l); err != nil {
		return err
	}
	if isWhole := len(rows) == 1; isWhole != (l.Item != nil) {
		return damage("the dead letter %v has %d rows, and its item in it is %v", stamp, len(rows), isWhole)
	}
	_, err := t.LetterOf(g, stamp, rows[0].Value)
	return err
}
