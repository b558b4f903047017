package operate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/wire"
	"github.com/dserver-go/dserver/queue"
)

// Import writes the servers of an export into a database. A server comes in several commits, and nobody handles anything of it
// before the last:
//
//  1. The first finds that there is nothing of the server, pauses it, and writes the row that says that it is imported, which is
//     the stamp of this commit. What an interrupted import has left is removed.
//  2. Those after it write what an export has, some of it in each, as long as that row is as it was. Messages and dead letters
//     get stamps made of it: they are no other message's of the server, in their order, and before those of all that is sent to
//     it from then on. When they are used up, another commit makes new ones.
//  3. The last ends the pause, and stamps the version of the state, and the fence of a lock that nobody holds: then consumers find
//     the server, and go on as those of the other store would have.
//
// Who waited for an answer in the other store is not told. What is sent to a server while it is imported comes after what is
// imported.
//
// | dies | what is left |
// |---|---|
// | before the commit of 1 | nothing |
// | before that of 3 | a server that is paused, of which Check says that its import has not ended; Import begins it anew |
// | after it | the server, whole; Import refuses to write it again |

var errFormat = errors.New("it is no export of dserver")

// Import is as said above. It returns how many servers are imported whole, also with an error.
func Import(ctx context.Context, db backend.Database, r io.Reader) (n int, err error) {
	in := wire.RecordsIn(r)
	var head piece
	if err := in.Decode(&head); err != nil || head.Format != exportFormat {
		return 0, fmt.Errorf("dserver: import: %w", errors.Join(errFormat, err))
	}
	if head.Version != exportVersion {
		return 0, fmt.Errorf("dserver: import: it is of version %d, and this program reads version %d", head.Version, exportVersion)
	}
	all := &intakes{ctx: ctx, db: db, room: make(chan struct{}, maxIntakes)}
	err = all.read(in)
	all.running.Wait()
	if err = errors.Join(err, all.err); err != nil {
		err = fmt.Errorf("%w (%d servers are imported whole)", err, all.whole)
	}
	return all.whole, err
}

const (
	maxIntakes = 32 // servers that are imported at a time, as most of the time is waited for commits
	manyPieces = 16 // of a server that is large: what follows it is read when it is imported
)

// intakes imports servers.
type intakes struct {
	ctx     context.Context
	db      backend.Database
	room    chan struct{}
	running sync.WaitGroup

	mu    sync.Mutex
	whole int
	err   error // the first
}

// read imports the servers of a file, until one of them fails.
func (all *intakes) read(in *cbor.Decoder) error {
	for n := 0; ; n++ {
		var p piece
		if err := in.Decode(&p); err != nil {
			return fmt.Errorf("dserver: import: the file ends, or is damaged, after %d servers: %w", n, err)
		}
		switch {
		case p.Servers != nil && *p.Servers == n:
			return nil
		case p.Server == nil:
			return fmt.Errorf("dserver: import: the file is damaged after %d servers", n)
		}
		pieces, err := restOf(in)
		if err != nil {
			return tenant.Doing("import", p.Server.ref(), err)
		}
		if all.failed() {
			return nil
		}
		all.room <- struct{}{}
		all.running.Go(func() {
			all.take(p.Server, pieces)
			<-all.room
		})
		if len(pieces) >= manyPieces {
			all.running.Wait()
		}
	}
}

func (all *intakes) failed() bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.err != nil
}

func (all *intakes) take(of *portable, pieces []piece) {
	err := newIntake(all.ctx, all.db, of).take(pieces)
	all.mu.Lock()
	defer all.mu.Unlock()
	switch {
	case err == nil:
		all.whole++
	case all.err == nil:
		all.err = tenant.Doing("import", of.ref(), err)
	}
}

// restOf reads the pieces of a server after its first.
func restOf(in *cbor.Decoder) (pieces []piece, err error) {
	for {
		var p piece
		if err := in.Decode(&p); err != nil {
			return nil, fmt.Errorf("the file ends, or is damaged, in the middle of it: %w", err)
		}
		switch {
		case p.End == nil:
			pieces = append(pieces, p)
		case *p.End != len(pieces):
			return nil, fmt.Errorf("the file has %d pieces of it, and not %d", len(pieces), *p.End)
		default:
			return pieces, nil
		}
	}
}

// intake imports one server.
type intake struct {
	ctx  context.Context
	db   backend.Database
	of   *portable
	keys tenant.Keys

	began backend.Versionstamp // the row's
	used  uint16               // of its stamps
}

func newIntake(ctx context.Context, db backend.Database, of *portable) *intake {
	return &intake{ctx: ctx, db: db, of: of, keys: tenant.KeysOf(of.ref())}
}

func (in *intake) take(pieces []piece) error {
	if err := in.of.ref().Check(); err != nil {
		return err
	}
	if err := in.begin(); err != nil {
		return err
	}
	for _, p := range pieces {
		if err := in.write(p); err != nil {
			return err
		}
	}
	return in.end()
}

// begin is step 1.
func (in *intake) begin() error {
	return in.mark(func(tx backend.Tx) error {
		was := tx.Get(in.keys.Importing())
		found, err := tx.GetRange(in.keys.Key.Tree(), backend.RangeOptions{Limit: 1}).Get()
		if err != nil {
			return err
		}
		begun, err := tenant.IsThere(was)
		if err != nil {
			return err
		}
		if len(found) > 0 && !begun {
			return tenant.Because(tenant.ErrChanged, "there is %v already; kill it first, or import into another database", in.of.ref())
		}
		tx.Clear(in.keys.Key.Tree())
		in.keys.Pause(tx, tenant.Importer)
		return nil
	})
}

// mark makes stamps for what follows, in a commit that does fn.
func (in *intake) mark(fn func(tx backend.Tx) error) error {
	var version backend.Future[backend.Versionstamp]
	err := in.db.Transact(in.ctx, func(tx backend.Tx) error {
		version = tx.Version()
		if err := in.keys.Queue().KeepEnd(tx); err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			return err
		}
		tx.Stamp(in.keys.Importing())
		return nil
	})
	if err != nil {
		return err
	}
	in.used = 0
	in.began, err = version.Get()
	return err
}

// next is a stamp for something of the other store, after all that were made before.
func (in *intake) next() (backend.Versionstamp, error) {
	if in.used == ^uint16(0)-in.began.Order() {
		if err := in.mark(in.isOurs); err != nil {
			return in.began, err
		}
	}
	in.used++
	return in.began.Plus(int(in.used)), nil
}

// isRenamed makes attempts those of the message that has another stamp now.
func (in *intake) isRenamed(lane int, old [12]byte, stamp backend.Versionstamp) {
	for i := range in.of.Attempts {
		if a := &in.of.Attempts[i]; a.Lane == lane && a.Of.Stamp == old {
			a.Of.Stamp, a.Why.Stamp, a.isThere = stamp, stamp, true
		}
	}
}

// isOurs fails when somebody else has changed the row meanwhile: by Kill, or another import.
func (in *intake) isOurs(tx backend.Tx) error {
	value, err := tx.Get(in.keys.Importing()).Get()
	if err != nil {
		return err
	}
	if began, err := backend.StampOf(value); err != nil || began != in.began {
		return errors.Join(err, tenant.Because(tenant.ErrChanged, "somebody else has removed or imported %v meanwhile", in.of.ref()))
	}
	return nil
}

// change is a transaction of step 2 or 3.
func (in *intake) change(fn func(tx backend.Tx) error) error {
	return in.db.Transact(in.ctx, func(tx backend.Tx) error {
		if err := in.isOurs(tx); err != nil {
			return err
		}
		return fn(tx)
	})
}

// write is step 2 for one piece. Stamps are made before the transaction, which may run again.
func (in *intake) write(p piece) error {
	letters, messages := make([]queue.Item, len(p.Letters)), make([]queue.Item, len(p.Messages))
	for i := range p.Letters {
		stamp, err := in.next()
		if err != nil {
			return err
		}
		letters[i] = queue.Item{Stamp: stamp}
	}
	for i, m := range p.Messages {
		stamp, err := in.next()
		if err != nil {
			return err
		}
		messages[i] = queue.Item{Lane: tenant.LaneOf(m.Lane), Stamp: stamp}
		in.isRenamed(m.Lane, m.Stamp, stamp)
	}
	return in.change(func(tx backend.Tx) error {
		for i, l := range p.Letters {
			if err := in.keys.WriteLetter(tx, &letters[i], l.Letter); err != nil {
				return err
			}
		}
		for i, m := range p.Messages {
			if err := in.keys.Queue().Place(tx, messages[i].Lane, messages[i].Stamp, m.Item); err != nil {
				return err
			}
		}
		for _, row := range p.State {
			tx.Set(in.keys.State().Join(row.Key), row.Value)
		}
		return in.writeDue(tx, p)
	})
}

func (in *intake) writeDue(tx backend.Tx, p piece) error {
	ref := in.of.ref()
	for _, t := range p.Timers {
		if err := in.keys.PutTimer(tx, ref, t.Name, t.Record); err != nil {
			return err
		}
	}
	for _, d := range p.Delayed {
		if err := in.keys.PutDelayed(tx, ref, d.Word, d.Send); err != nil {
			return err
		}
	}
	for _, o := range p.Once {
		if err := in.keys.PutOnce(tx, ref, o.Name, o.Record); err != nil {
			return err
		}
	}
	return nil
}

// end is step 3.
func (in *intake) end() error {
	if lock := in.of.Lock; lock != nil {
		stamp, err := in.next()
		if err != nil {
			return err
		}
		lock.Stamp = stamp
		if in.of.Failed != nil {
			in.of.Failed.Stamp = stamp
		}
	}
	err := in.change(func(tx backend.Tx) error {
		tx.Clear(in.keys.Importing().Only())
		tx.Clear(in.keys.Paused().Only())
		if in.of.Paused != nil {
			tx.Set(in.keys.Paused(), tenant.EncodeRecord(*in.of.Paused))
		}
		if in.of.HasState {
			tx.Stamp(in.keys.Version())
			tx.Set(in.keys.Meta(), tenant.EncodeRecord(in.of.Meta))
		}
		if in.of.Pin != nil {
			in.keys.SetPin(tx, *in.of.Pin)
			tenant.SetCalled(tx, in.of.ref(), *in.of.Pin)
		}
		for _, a := range in.of.Attempts {
			if a.isThere {
				in.keys.SetAttempts(tx, tenant.LaneOf(a.Lane), a.Of, a.Why)
			}
		}
		tenant.SetReady(tx, in.of.ref()) // also for what was sent, or was due, since the pause: its mark may be gone
		return in.endLock(tx)
	})
	if err == nil {
		mailbox.Of(in.db).Wake(in.of.ref())
	}
	return err
}

func (in *intake) endLock(tx backend.Tx) error {
	if in.of.Lock == nil {
		return nil
	}
	in.keys.Take(tx, *in.of.Lock, tenant.Vacant)
	if in.of.Failed != nil {
		in.keys.SetLockFailure(tx, *in.of.Failed)
	}
	return tenant.SetLarge(tx, in.keys.LockedMessage(), in.of.Locked)
}
