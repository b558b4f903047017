package operate

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
	"github.com/dserver-go/dserver/queue"
)

// Check reads all that is stored in db and compares it with itself. defs are the types of which states are decoded. With
// an error the check is not complete.
func Check(ctx context.Context, db backend.Database, defs []*turn.Definition) (findings []error, err error) {
	c := &checker{ctx: ctx, db: db, types: map[string]*turn.Definition{}}
	for _, def := range defs {
		c.types[def.Name] = def
	}
	c.parts, c.tell = c.ofServer(), c.collect
	if err := c.all(); err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("dserver: check: %w", err)
	}
	return c.findings, nil
}

// maxFindings bounds what Check reports of a database that is thoroughly wrong.
const maxFindings = 100

var errEnough = errors.New("dserver: enough findings")

type checker struct {
	ctx      context.Context
	db       backend.Database
	types    map[string]*turn.Definition
	parts    map[string]func(*glimpse, tenant.Ref) error // of a server
	findings []error
	tell     func(at any, err error) error // what is done with a finding
}

// damage is a violation of an invariant.
func damage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", backend.ErrCorrupt, fmt.Sprintf(format, args...))
}

// isFinding tells what is wrong with what is stored, for these types at least, from what ends a check.
func isFinding(err error) bool {
	return errors.Is(err, backend.ErrCorrupt) || errors.Is(err, tenant.ErrState)
}

// note tells damage, and leaves other errors alone. It is called outside of the reads, which may run twice.
func (c *checker) note(at any, err error) error {
	if !isFinding(err) {
		return err
	}
	return c.tell(at, err)
}

// collect keeps a finding.
func (c *checker) collect(at any, err error) error {
	c.findings = append(c.findings, fmt.Errorf("%v: %w", at, err))
	if len(c.findings) >= maxFindings {
		return errEnough
	}
	return nil
}

// all checks what is below each first element of the keys.
func (c *checker) all() error {
	sections := map[string]func(backend.Key) error{
		tenant.KeyServer:  c.servers,
		tenant.KeyReady:   c.marks,
		tenant.KeyParked:  c.waits,
		tenant.KeyLabel:   c.labels,
		tenant.KeyTrouble: c.troubles,
		tenant.KeyActs:    c.acts,
		tenant.KeyBell:    c.bells,
		tenant.KeyDue:     c.dues,
		tenant.KeyAlarm:   c.bells,
		tenant.KeyProcess: c.processes,
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
	for name, err := range namesBelow(c.ctx, c.db, prefix) {
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
		if len(elements) > 0 {
			if shard, isNumber := elements[0].(int64); isNumber {
				ref, d, err := tenant.ParseDue(tenant.DueShard(shard), key)
				if err != nil || tenant.ShardOf(ref) == shard {
					return err
				}
				if !isShard(shard) {
					return damage("%v is no row of the index of what is due", key)
				}
				return moved(damage("%v is no row of the index of what is due", key), key, ref, func(tx backend.Tx) { tenant.SetDue(tx, ref, d) })
			}
		}
		return damage("%v is no row of the index of what is due", key)
	})
}

// marks checks that each ready mark is where consumers look for it. One of an empty queue is no damage: it costs a
// look, and is cleared.
func (c *checker) marks(prefix backend.Key) error {
	return c.each(prefix, func(key backend.Key, elements []any, value []byte) error {
		if ref, process, ok := tenant.ClaimOf(key); ok {
			return c.claim(ref, process, value)
		}
		if len(elements) == 4 {
			typ, isType := elements[1].(string)
			id, isID := elements[2].(string)
			ref := tenant.Ref{Type: typ, ID: id}
			if isType && isID && (key.Compare(tenant.ReadyMark(ref)) == 0 || key.Compare(tenant.ReadyClaims(ref)) == 0) {
				return nil
			}
			if isType && isID && isShard(elements[0]) && elements[3] == tenant.KeyMark {
				return moved(damage("%v is no ready mark", key), key, ref, func(tx backend.Tx) { tenant.SetReady(tx, ref) })
			}
		}
		return damage("%v is no ready mark", key)
	})
}

// waits checks that each row of a server that waits is where consumers look for it. One of an empty queue is no damage.
func (c *checker) waits(prefix backend.Key) error {
	return c.each(prefix, func(key backend.Key, elements []any, _ []byte) error {
		if len(elements) == 3 {
			typ, isType := elements[1].(string)
			id, isID := elements[2].(string)
			ref := tenant.Ref{Type: typ, ID: id}
			if isType && isID && key.Compare(tenant.ParkedRow(ref, "")) == 0 {
				return nil
			}
			if isType && isID && isShard(elements[0]) { // whoever comes parks it where it belongs
				return moved(damage("%v is no row of a server that waits", key), key, ref, func(tx backend.Tx) { tenant.SetReady(tx, ref) })
			}
		}
		return damage("%v is no row of a server that waits", key)
	})
}

// troubles checks the index of trouble. A row of a server without any is no damage: who reads it removes it.
func (c *checker) troubles(prefix backend.Key) error {
	return c.each(prefix, func(key backend.Key, _ []any, _ []byte) error {
		_, err := tenant.ParseTrouble(key)
		return err
	})
}

// acts checks what operators did.
func (c *checker) acts(prefix backend.Key) error {
	return c.each(prefix, func(key backend.Key, _ []any, value []byte) error {
		if _, isAct := key.CutStamp(prefix); !isAct {
			return damage("%v is no act of an operator", key)
		}
		var a tenant.Act
		return tenant.DecodeRecord(value, &a)
	})
}

// labels checks the bells of labels and the rows below them. One of an empty queue is no damage, nor one of a server that is
// under another label: whoever lists this one removes it.
func (c *checker) labels(prefix backend.Key) error {
	return c.each(prefix, func(key backend.Key, elements []any, value []byte) error {
		if len(elements) == 1 {
			if _, isLabel := elements[0].(string); isLabel {
				_, err := backend.Counter(value)
				return muteBell(err, key)
			}
		}
		if len(elements) == 3 {
			if label, isLabel := elements[0].(string); isLabel {
				_, err := tenant.ParseLabelRow(tenant.LabelBell(label), key)
				return err
			}
		}
		return damage("%v is no row of a label", key)
	})
}

// claim checks a claim: it goes with the last message of its server, and before the record of its process. It is read
// anew with these, as it may have gone with them.
func (c *checker) claim(ref tenant.Ref, process string, value []byte) error {
	var written tenant.Claim
	if err := tenant.DecodeRecord(value, &written); err != nil {
		return vainClaim(err, ref, process)
	}
	err := c.db.Read(c.ctx, func(tx backend.ReadTx) error { return claimIn(tx, ref, process) })
	if isFinding(err) {
		err = vainClaim(err, ref, process)
	}
	return err
}

// claimIn is claim in one snapshot, or in a transaction that has what it finds as conflicts.
func claimIn(tx backend.Reader, ref tenant.Ref, process string) error {
	row, mark, record := tx.Get(tenant.ReadyClaim(ref, process)), tx.Get(tenant.ReadyMark(ref)), tx.Get(tenant.PresenceOf(process).Record())
	if claims, err := tenant.IsThere(row); err != nil || !claims {
		return err
	}
	marked, err := tenant.IsThere(mark)
	if err == nil && !marked {
		var empty bool
		if empty, err = tenant.KeysOf(ref).Queue().IsEmpty(tx); err == nil && empty {
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
}

// isShard reports whether an element of a key is a shard of this version of the library.
func isShard(element any) bool {
	shard, ok := element.(int64)
	return ok && shard >= 0 && shard < tenant.Shards
}

func (c *checker) bells(prefix backend.Key) error {
	return c.each(prefix, func(key backend.Key, elements []any, value []byte) error {
		if len(elements) == 1 {
			_, err := backend.Counter(value)
			switch {
			case !isShard(elements[0]):
			case err == nil:
				return nil
			default:
				return muteBell(damage("%v is no bell", key), key)
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
			pairs, err = tx.GetRange(rest, backend.RangeOptions{Limit: tenant.MaxScan}).Get()
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
		if len(pairs) < tenant.MaxScan {
			return nil
		}
		rest.Begin = pairs[len(pairs)-1].Key.Only().End
	}
}

func (c *checker) processes(prefix backend.Key) error {
	return c.below(prefix, func(id string) error {
		return c.note(processPlace(id), c.db.Read(c.ctx, func(tx backend.ReadTx) error { return c.process(tx, id) }))
	})
}

// process checks a mailbox. Its counters are not compared: who empties it is told once in a lifetime that it is
// unknown whether that happened, and counts it again.
func (c *checker) process(tx backend.Reader, id string) error {
	keys := tenant.PresenceOf(id)
	value, err := tx.Get(keys.Record()).Get()
	if err != nil {
		return err
	}
	if value == nil {
		return lostMail(damage("keys without a record"), keys)
	}
	var r tenant.ProcessRecord
	if err := tenant.DecodeRecord(value, &r); err != nil {
		return err
	}
	for after := (queue.Item{}); ; {
		items, err := keys.Mail().Read(tx, after, mailbox.MaxMail)
		if err != nil || len(items) == 0 {
			return err
		}
		for _, item := range items {
			for _, letter := range tenant.Unbundle(item.Body) {
				var m tenant.Mail
				if err := tenant.DecodeRecord(letter, &m); err != nil {
					return err
				}
			}
		}
		after = items[len(items)-1]
	}
}
