package dserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Check reads all that is stored in db and compares it with itself. It returns nil when every invariant holds:
//
//  1. A server with messages has a ready mark, or no consumer would come.
//  2. The length of each queue, and the number of dead letters, are those that the counters say; each item is whole.
//     Attempts are those of a message that waits.
//  3. A server that has a state has a version and a record of its creation. If its type is one of types, its state can be
//     decoded: else the finding is ErrState when the state is sound and these types cannot read it, as others may.
//  4. Nothing is in the mailbox of a process that has no record, since nobody will read it. A claim is of a server with
//     a ready mark, and of a process with a record.
//  5. Every key is one that the library writes, and every record can be read.
//
// Else its error joins what it found, at most a hundred findings, each with its place and backend.ErrCorrupt. Any other
// error is the store's or ctx's, and then the check is not complete.
//
// Check changes nothing, and may run while consumers do: what is compared was read in one snapshot. Where a queue, or the
// dead letters of a server, are too many for one snapshot, their number is not compared. It reads page by page, so that
// its memory has a bound, except for what one state takes.
func Check(ctx context.Context, db backend.Database, types ...Type) error {
	c := &checker{ctx: ctx, db: db, types: map[string]*definition{}}
	for _, t := range types {
		c.types[t.Name()] = t.sealed()
	}
	c.parts = c.ofServer()
	if err := c.all(); err != nil && !errors.Is(err, errEnough) {
		return fmt.Errorf("dserver: check: %w", err)
	}
	return errors.Join(c.findings...)
}

// maxFindings bounds what Check reports of a database that is thoroughly wrong.
const maxFindings = 100

var errEnough = errors.New("dserver: enough findings")

type checker struct {
	ctx      context.Context
	db       backend.Database
	types    map[string]*definition
	parts    map[string]func(*glimpse, Ref) error // of a server
	findings []error
}

// damage is a violation of an invariant.
func damage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", backend.ErrCorrupt, fmt.Sprintf(format, args...))
}

// isFinding tells what is wrong with what is stored, for these types at least, from what ends a check.
func isFinding(err error) bool { return errors.Is(err, backend.ErrCorrupt) || errors.Is(err, ErrState) }

// note keeps damage as a finding, and leaves other errors alone. It is called outside of the reads, which may run twice.
func (c *checker) note(place any, err error) error {
	if !isFinding(err) {
		return err
	}
	c.findings = append(c.findings, fmt.Errorf("%v: %w", place, err))
	if len(c.findings) >= maxFindings {
		return errEnough
	}
	return nil
}

// all checks what is below each first element of the keys.
func (c *checker) all() error {
	sections := map[string]func(backend.Key) error{
		keyServer:  c.servers,
		keyReady:   c.marks,
		keyParked:  c.waits,
		keyBell:    c.bells,
		keyDue:     c.dues,
		keyAlarm:   c.bells,
		keyProcess: c.processes,
	}
	return c.below(nil, func(name string) error {
		check := sections[name]
		if check == nil {
			return c.note(backend.NewKey(name), damage("keys that belong to nothing"))
		}
		return check(backend.NewKey(name))
	})
}

// below calls fn with each name that follows prefix in some key.
func (c *checker) below(prefix backend.Key, fn func(name string) error) error {
	for name, err := range names(c.ctx, c.db, prefix) {
		if err != nil {
			return c.note(prefix, err)
		}
		if err := fn(name); err != nil {
			return err
		}
	}
	return nil
}

// dues checks the index of what is due.
func (c *checker) dues(prefix backend.Key) error {
	return c.each(prefix, func(key backend.Key, elements []any, _ []byte) error {
		if len(elements) < 2 {
			return damage("%v is no row of the index of what is due", key)
		}
		typ, isType := elements[0].(string)
		shard, isShard := elements[1].(int64)
		if !isType || !isShard {
			return damage("%v is no row of the index of what is due", key)
		}
		_, _, err := parseDue(dueShard(typ, shard), key)
		return err
	})
}

// marks checks that each ready mark is where consumers look for it. One of an empty queue is no damage: it costs a
// look, and is cleared.
func (c *checker) marks(prefix backend.Key) error {
	return c.each(prefix, func(key backend.Key, elements []any, value []byte) error {
		if ref, process, ok := claimOf(key); ok {
			return c.claim(ref, process, value)
		}
		if len(elements) == 4 {
			typ, isType := elements[0].(string)
			id, isID := elements[2].(string)
			if isType && isID && (key.Compare(readyMark(Ref{typ, id})) == 0 || key.Compare(readyClaims(Ref{typ, id})) == 0) {
				return nil
			}
		}
		return damage("%v is no ready mark", key)
	})
}

// waits checks that each row of a server that waits is where consumers look for it. One of an empty queue is no damage.
func (c *checker) waits(prefix backend.Key) error {
	return c.each(prefix, func(key backend.Key, elements []any, _ []byte) error {
		if len(elements) == 3 {
			typ, isType := elements[0].(string)
			id, isID := elements[2].(string)
			if isType && isID && key.Compare(parked(Ref{typ, id})) == 0 {
				return nil
			}
		}
		return damage("%v is no row of a server that waits", key)
	})
}

// claim checks a claim: it goes with the last message of its server, and before the record of its process. It is read
// anew with these, as it may have gone with them.
func (c *checker) claim(ref Ref, process string, value []byte) error {
	var written claim
	if err := decodeRecord(value, &written); err != nil {
		return err
	}
	return c.db.Read(c.ctx, func(tx backend.ReadTx) error {
		row, mark, record := tx.Get(readyClaim(ref, process)), tx.Get(readyMark(ref)), tx.Get(presenceOf(process).record())
		if claims, err := isThere(row); err != nil || !claims {
			return err
		}
		marked, err := isThere(mark)
		if err == nil && !marked {
			var empty bool
			if empty, err = tenantOf(ref).queue().IsEmpty(tx); err == nil && empty {
				err = damage("a claim of a server that has no ready mark and no message")
			}
		}
		if err != nil {
			return err
		}
		value, err := record.Get()
		if err == nil && value == nil {
			err = damage("a claim of the process %s, which has no record", process)
		}
		return err
	})
}

func (c *checker) bells(prefix backend.Key) error {
	return c.each(prefix, func(key backend.Key, elements []any, value []byte) error {
		if len(elements) == 2 {
			shard, ok := elements[1].(int64)
			if _, err := backend.Counter(value); ok && err == nil && shard >= 0 && shard < shards {
				return nil
			}
		}
		return damage("%v is no bell", key)
	})
}

// each calls fn with each pair below prefix, in pages, with the elements of its key after prefix.
func (c *checker) each(prefix backend.Key, fn func(key backend.Key, elements []any, value []byte) error) error {
	for rest := prefix.Below(); ; {
		var pairs []backend.KeyValue
		err := c.db.Read(c.ctx, func(tx backend.ReadTx) (err error) {
			pairs, err = tx.GetRange(rest, backend.RangeOptions{Limit: maxScan}).Get()
			return err
		})
		if err != nil {
			return err
		}
		for _, pair := range pairs {
			suffix, _ := pair.Key.CutPrefix(prefix)
			elements, err := suffix.Elements()
			if err == nil {
				err = fn(pair.Key, elements, pair.Value)
			}
			if err := c.note(pair.Key, err); err != nil {
				return err
			}
		}
		if len(pairs) < maxScan {
			return nil
		}
		rest.Begin = pairs[len(pairs)-1].Key.Only().End
	}
}

func (c *checker) processes(prefix backend.Key) error {
	return c.below(prefix, func(id string) error {
		return c.note("process "+id, c.db.Read(c.ctx, func(tx backend.ReadTx) error { return c.process(tx, id) }))
	})
}

// process checks a mailbox. Its counters are not compared: who empties it is told once in a lifetime that it is
// unknown whether that happened, and counts it again.
func (c *checker) process(tx backend.Reader, id string) error {
	keys := presenceOf(id)
	value, err := tx.Get(keys.record()).Get()
	if err != nil {
		return err
	}
	if value == nil {
		return damage("keys without a record")
	}
	var r record
	if err := decodeRecord(value, &r); err != nil {
		return err
	}
	for after := (queue.Item{}); ; {
		items, err := keys.mail().Read(tx, after, maxMail)
		if err != nil || len(items) == 0 {
			return err
		}
		for _, item := range items {
			var m mail
			if err := decodeRecord(item.Body, &m); err != nil {
				return err
			}
		}
		after = items[len(items)-1]
	}
}
