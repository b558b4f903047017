package operate

import (
	"bytes"
	"crypto/rand"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// What mends each finding. Each says why nothing else can come of it.

// noMark: a mark of a server on which nothing waits costs a look, so it is set without a conflict with those who push.
func noMark(err error, ref tenant.Ref) error {
	return mendable(err, mend{"set its ready mark", ref, func(tx backend.Tx, _ *tenant.Act) (bool, error) {
		var h tenant.Head
		if err := tenant.ReadHead(tx, tenant.KeysOf(ref), &h, tenant.Known{}, true); err != nil || len(h.Items) == 0 || h.Halts() {
			return false, err
		}
		for _, key := range []backend.Key{tenant.ReadyMark(ref), tenant.ParkedRow(ref, h.Pin.Label), tenant.LabelRow(h.Pin.Label, ref)} {
			if there, err := tenant.IsThere(tx.Get(key)); err != nil || there {
				return false, err
			}
		}
		tenant.SetReady(tx, ref)
		return true, nil
	}})
}

// noTroubleRow: a row of a server without trouble is removed by whoever reads it.
func noTroubleRow(err error, ref tenant.Ref) error {
	return mendable(err, mend{"put it into the index of trouble", ref, func(tx backend.Tx, _ *tenant.Act) (bool, error) {
		there, err := tenant.IsThere(tx.Get(tenant.TroubleRow(ref)))
		if err != nil || there {
			return false, err
		}
		s, _, err := statusOf(tx, tenant.KeysOf(ref))
		if err != nil || s.DeadLetters == 0 && !s.Halted && !s.Paused {
			return false, err
		}
		tx.Set(tenant.TroubleRow(ref), nil)
		return true, nil
	}})
}

// vainAttempts: they are of one message, by its stamp, which no other has and which cannot come back.
func vainAttempts(err error, ref tenant.Ref, lane queue.Lane, stamp backend.Versionstamp) error {
	return mendable(err, mend{"forget the attempts", ref, func(tx backend.Tx, act *tenant.Act) (bool, error) {
		keys := tenant.KeysOf(ref)
		a, err := keys.ReadAttempts(tx, lane)
		if err != nil || a.Stamp != stamp {
			return false, err
		}
		killed, err := keys.KilledAt(tx)
		if err != nil || !killed.IsZero() {
			return false, err
		}
		if _, waits, err := keys.Queue().Find(tx, stamp); err != nil || waits {
			return false, err
		}
		act.Stamp = stamp
		keys.ClearAttempt(tx, lane)
		tenant.SetReady(tx, ref) // it may have halted for it
		return true, nil
	}})
}

// vainFailure: a reason is for people, and the next attempt writes another one.
func vainFailure(err error, ref tenant.Ref, pair backend.KeyValue) error {
	return mendable(err, mend{"forget the reason", ref, func(tx backend.Tx, _ *tenant.Act) (bool, error) {
		keys := tenant.KeysOf(ref)
		value, err := tx.Get(pair.Key).Get()
		if err != nil || !bytes.Equal(value, pair.Value) {
			return false, err
		}
		var f tenant.Failure
		if tenant.DecodeRecord(value, &f) == nil {
			rest, _ := pair.Key.CutPrefix(keys.Key.Str(tenant.KeyFailure))
			is, err := isFailing(tx, keys, rest, f.Stamp)
			if err != nil || is {
				return false, err
			}
		}
		tx.Clear(pair.Key.Only())
		return true, nil
	}})
}

// isFailing reports whether a reason has the attempts, or the lock, that it belongs to.
func isFailing(tx backend.Reader, keys tenant.Keys, rest backend.Key, stamp backend.Versionstamp) (bool, error) {
	lane, _, isLock := tenant.FailurePlace(rest)
	if isLock {
		l, err := tenant.ReadLock(tx, keys)
		return l.IsHeld() && l.Record.Stamp == stamp, err
	}
	a, err := keys.ReadAttempts(tx, lane)
	return a.Stamp == stamp, err
}

// queueFlaw is what mends a queue that is damaged: rows without their item are removed, and then it is counted.
func (c *checker) queueFlaw(g *glimpse, ref tenant.Ref, err error) error {
	q := tenant.KeysOf(ref).Queue()
	lost, _, failed := q.Headless(g)
	if failed != nil {
		return failed
	}
	if lost != nil {
		return mendable(err, mend{"remove rows of a message that has lost its first one", ref, func(tx backend.Tx, act *tenant.Act) (bool, error) {
			key, rows, err := q.Headless(tx)
			if err != nil || key == nil {
				return false, err
			}
			if there, err := tenant.IsThere(tx.Get(key)); err != nil || there {
				return false, err
			}
			act.Before = tenant.KeepValue("", bytes.Join(rows, nil))
			tx.Clear(key.Tree())
			tenant.SetReady(tx, ref)
			return true, nil
		}})
	}
	if n, counted := q.Recount(g); counted != nil || n == 0 {
		return err // an item or a counter cannot be read
	}
	return mendable(err, mend{"correct the counter of its messages", ref, func(tx backend.Tx, _ *tenant.Act) (bool, error) {
		n, err := q.Recount(tx)
		if err != nil || n == 0 {
			return false, err
		}
		if err := recounted(tx, ref); err != nil {
			return false, err
		}
		q.Correct(tx, n)
		return true, nil
	}})
}

// recounted makes two repairs that correct a counter of one server conflict: each would add the difference. They meet at the
// row in the index of trouble, whose value nobody reads, and not at the counter, on which all who push would be in their way.
func recounted(tx backend.Tx, ref tenant.Ref) error {
	if _, err := tx.Get(tenant.TroubleRow(ref)).Get(); err != nil {
		return err
	}
	tx.Set(tenant.TroubleRow(ref), []byte(rand.Text()))
	return nil
}

// lettersUncounted: as with messages, what is added and removed meanwhile is on both sides of the difference.
func (c *checker) lettersUncounted(err error, ref tenant.Ref) error {
	return mendable(err, mend{"correct the counter of its dead letters", ref, func(tx backend.Tx, _ *tenant.Act) (bool, error) {
		dead := tenant.KeysOf(ref).Dead()
		pairs, err := tx.GetRange(dead.Only(), backend.RangeOptions{Limit: 1, Snapshot: true}).Get()
		if err != nil {
			return false, err
		}
		var count, found int64
		if len(pairs) > 0 {
			if count, err = backend.Counter(pairs[0].Value); err != nil {
				return false, err
			}
		}
		if err := c.letterSection(ref, &found).walk((&glimpse{Reader: tx}).same); err != nil || found == count {
			return false, err
		}
		if err := recounted(tx, ref); err != nil {
			return false, err
		}
		tx.Add(dead, found-count)
		return true, nil
	}})
}

// lostLetter: the message is there, and why it was set aside is not. What is not whole is no message.
func lostLetter(err error, ref tenant.Ref, stamp backend.Versionstamp) error {
	return mendable(err, mend{"write its record anew, or remove it if it is not whole", ref, func(tx backend.Tx, act *tenant.Act) (bool, error) {
		act.Stamp = stamp
		return tenant.KeysOf(ref).MendLetter(tx, stamp)
	}})
}

// headless: a value without its first row cannot be read by anybody.
func headless(err error, ref tenant.Ref, owner backend.Key) error {
	return mendable(err, mend{"remove what is left of it", ref, func(tx backend.Tx, act *tenant.Act) (bool, error) {
		pairs, err := tx.GetRange(owner.Tree(), backend.RangeOptions{}).Get()
		if err != nil || len(pairs) == 0 || pairs[0].Key.Compare(owner) == 0 {
			return false, err
		}
		var rows []byte
		for _, pair := range pairs {
			rows = append(rows, pair.Value...)
		}
		act.Before = tenant.KeepValue("", rows)
		tx.Clear(owner.Tree())
		return true, nil
	}})
}

// notDue: a row of which there is nothing does nothing when its time comes, so it is set without a conflict with whoever takes
// the record away. All of the part that are missing from a page of it on are set at once.
func notDue(err error, ref tenant.Ref, d tenant.Due, part string) error {
	if d.At == 0 && part != tenant.KeyOnce {
		return err // when it is due is not known
	}
	return mendable(err, mend{"put it into the index of what is due, with those after it", ref, func(tx backend.Tx, _ *tenant.Act) (bool, error) {
		prefix := tenant.KeysOf(ref).Key.Str(part)
		rest := prefix.Below()
		rest.Begin = prefix.Str(d.Name)
		var missing []tenant.Due
		s := section{
			prefix: prefix,
			owner: func(key backend.Key) (backend.Key, error) {
				child, err := tenant.ChildOf(prefix, key)
				return prefix.Str(child), err
			},
			check: func(g *glimpse, owner backend.Key, rows []backend.KeyValue) error {
				is, at, err := dueOf(part, prefix, owner, rows)
				if err != nil || is.At == 0 && at == 0 {
					return err
				}
				if there, err := g.isDue(ref, is); err != nil || there {
					return err
				}
				is.At = at
				missing = append(missing, is)
				return nil
			},
		}
		if _, err := s.page(&glimpse{Reader: tx}, rest); err != nil || len(missing) == 0 {
			return false, err
		}
		for _, d := range missing {
			tenant.SetDue(tx, ref, d)
		}
		return true, nil
	}})
}

// longEnough is for how long an idempotency key is kept whose end is not known: as long as a new one.
const longEnough = 24 * time.Hour

// dueOf is the row that a record needs, and when. It is zero of a record that cannot be read, which is a finding of its own.
func dueOf(part string, prefix, owner backend.Key, rows []backend.KeyValue) (d tenant.Due, at int64, err error) {
	name, err := tenant.ChildOf(prefix, owner)
	if err != nil {
		return d, 0, err
	}
	value, err := tenant.LargeRead{Key: owner, Pairs: backend.Ready(rows, nil)}.Get()
	if err != nil {
		return d, 0, nil //nolint:nilerr // it is told elsewhere
	}
	var later tenant.Delayed
	var once tenant.OnceRecord
	switch {
	case part == tenant.KeyLater && tenant.DecodeRecord(value, &later) == nil:
		return tenant.Due{At: later.At, Kind: tenant.DueMessage, Name: name}, later.At, nil
	case part == tenant.KeyOnce && tenant.DecodeRecord(value, &once) == nil && once.Until != 0:
		return tenant.Due{At: once.Until, Kind: tenant.DueOnce, Name: name}, once.Until, nil
	case part == tenant.KeyOnce && tenant.DecodeRecord(value, &once) == nil:
		return tenant.Due{Kind: tenant.DueOnce, Name: name}, time.Now().Add(longEnough).UnixMilli(), nil
	}
	return d, 0, nil
}

// vainStamp: it says when a message was sent that is not there, and whose name no other has.
func vainStamp(err error, ref tenant.Ref, word string) error {
	return mendable(err, mend{"remove the stamp", ref, func(tx backend.Tx, _ *tenant.Act) (bool, error) {
		keys := tenant.KeysOf(ref)
		if there, err := tenant.IsThere(tx.Get(keys.Delayed(word))); err != nil || there {
			return false, err
		}
		if there, err := tenant.IsThere(tx.Get(keys.Sent(word))); err != nil || !there {
			return false, err
		}
		tx.Clear(keys.Sent(word).Only())
		return true, nil
	}})
}

// vainClaim: a claim goes with the last message of its server and with its process; one that cannot be read counts as none.
func vainClaim(err error, ref tenant.Ref, process string) error {
	return mendable(err, mend{"remove the claim", ref, func(tx backend.Tx, _ *tenant.Act) (bool, error) {
		key := tenant.ReadyClaim(ref, process)
		value, err := tx.Get(key).Get()
		if err != nil || value == nil {
			return false, err
		}
		var written tenant.Claim
		if tenant.DecodeRecord(value, &written) == nil {
			if err := claimIn(tx, ref, process); !isFinding(err) {
				return false, err
			}
		}
		tx.Clear(key.Only())
		return true, nil
	}})
}

// moved: a row in a shard where it leads nobody anywhere is written where it belongs. Who comes there in vain removes it.
func moved(err error, key backend.Key, ref tenant.Ref, write func(tx backend.Tx)) error {
	return mendable(err, mend{"put it where it belongs", ref, func(tx backend.Tx, _ *tenant.Act) (bool, error) {
		if there, err := tenant.IsThere(tx.Get(key)); err != nil || !there {
			return false, err
		}
		tx.Clear(key.Only())
		write(tx)
		return true, nil
	}})
}

// muteBell: who watches a bell looks when it changes, whatever it says, and a bell that is not there begins at 0.
func muteBell(err error, key backend.Key) error {
	if err == nil {
		return nil
	}
	return mendable(err, mend{how: "let the bell begin anew", do: func(tx backend.Tx, _ *tenant.Act) (bool, error) {
		value, err := tx.Get(key).Get()
		if err != nil {
			return false, err
		}
		if _, err := backend.Counter(value); err == nil {
			return false, nil
		}
		tx.Clear(key.Only())
		return true, nil
	}})
}

// lostMail: nobody will read it, as when a process is removed that does not beat any more. One that lives writes its record in
// the commit that asks for an answer, and is a conflict.
func lostMail(err error, keys tenant.Presence) error {
	return mendable(err, mend{how: "remove what is left of the process", do: func(tx backend.Tx, _ *tenant.Act) (bool, error) {
		if there, err := tenant.IsThere(tx.Get(keys.Record())); err != nil || there {
			return false, err
		}
		tx.Clear(keys.Key.Below())
		return true, nil
	}})
}
