package operate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// Export writes servers, each as it is in one snapshot, and returns how many. It holds one server in memory.
func Export(ctx context.Context, db backend.Database, w io.Writer, servers iter.Seq2[tenant.Ref, error]) (n int, err error) {
	write := func(p piece) error {
		_, err := w.Write(tenant.EncodeRecord(p))
		return err
	}
	if err := write(piece{Format: exportFormat, Version: exportVersion, At: time.Now().UnixMilli()}); err != nil {
		return 0, err
	}
	for ref, err := range servers {
		if err != nil {
			return n, err
		}
		pieces, err := exported(ctx, db, ref)
		if errors.Is(err, tenant.ErrNotFound) { // it went since it was listed
			continue
		}
		if err != nil {
			return n, tenant.Doing("export", ref, err)
		}
		for _, p := range pieces {
			if err := write(p); err != nil {
				return n, err
			}
		}
		n++
	}
	return n, write(piece{Servers: &n})
}

// exported is the pieces of a server.
func exported(ctx context.Context, db backend.Database, ref tenant.Ref) (pieces []piece, err error) {
	err = db.Read(ctx, func(tx backend.ReadTx) error {
		e := exporter{tx: tx, keys: tenant.KeysOf(ref), of: &portable{Type: ref.Type, ID: ref.ID}}
		for _, read := range []func() error{e.head, e.letters, e.messages, e.state, e.timers, e.delayed, e.onces} {
			if err := read(); err != nil {
				return err
			}
		}
		pieces = e.whole()
		return nil
	})
	return pieces, err
}

// exporter reads one server in a snapshot.
type exporter struct {
	tx     backend.Reader
	keys   tenant.Keys
	of     *portable
	pieces []piece
	open   piece // that is being filled
	bytes  int
	rows   int
}

// add puts something of this size into the open piece.
func (e *exporter) add(bytes int, into func(p *piece)) {
	into(&e.open)
	e.bytes, e.rows = e.bytes+bytes, e.rows+1
	if e.bytes >= pieceBytes || e.rows >= maxPieceRows {
		e.close()
	}
}

// close begins another piece, as it does before another kind of thing.
func (e *exporter) close() {
	if e.rows > 0 {
		e.pieces = append(e.pieces, e.open)
	}
	e.open, e.bytes, e.rows = piece{}, 0, 0
}

func (e *exporter) whole() []piece {
	n := len(e.pieces)
	return append(append([]piece{{Server: e.of}}, e.pieces...), piece{End: &n})
}

func (e *exporter) head() error {
	pairs, err := e.tx.GetRange(e.keys.Head().Tree(), backend.RangeOptions{}).Get()
	if err != nil {
		return err
	}
	if len(pairs) == 0 {
		if rest, err := e.tx.GetRange(e.keys.Key.Below(), backend.RangeOptions{Limit: 1}).Get(); err != nil || len(rest) == 0 {
			return errors.Join(err, tenant.ErrNotFound)
		}
	}
	var h tenant.Head
	if err := h.Records(e.keys.Head(), pairs); err != nil {
		return err
	}
	switch {
	case !h.Killed.IsZero():
		return errors.New("it was killed, and its messages are being removed: try again in a moment")
	case h.Paused.By == tenant.Importer:
		return errors.New("its import has not ended")
	}
	e.of.HasState, e.of.Meta = !h.Version.IsZero(), h.Meta
	if h.Pin.IsSet {
		e.of.Pin = &h.Pin.Label
	}
	if h.Paused.Is() {
		e.of.Paused = &h.Paused
	}
	for lane, a := range h.Attempts {
		if a == (tenant.Attempts{}) {
			continue
		}
		why, err := e.keys.ReadFailure(e.tx, queue.Lane(lane)).Get()
		if err != nil {
			return err
		}
		e.of.Attempts = append(e.of.Attempts, portableAttempts{Lane: lane, Of: a, Why: why})
	}
	return e.lock(h.Lock)
}

func (e *exporter) lock(l tenant.Lock) error {
	if !l.IsHeld() {
		return nil
	}
	items, err := e.keys.LockedItems(e.tx)
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return fmt.Errorf("%w: a lock without its message", backend.ErrCorrupt)
	}
	e.of.Lock, e.of.Locked = &l.Record, tenant.WithoutCaller(items[0].Body)
	failed, err := e.keys.ReadLockFailure(e.tx).Get()
	if err == nil && failed != (tenant.Failure{}) {
		e.of.Failed = &failed
	}
	return err
}

// page reads a range in pages.
func (e *exporter) page(rest backend.Range, fn func(backend.KeyValue) error) error {
	for {
		pairs, err := e.tx.GetRange(rest, backend.RangeOptions{Limit: maxPieceRows, Bytes: pieceBytes}).Get()
		if err != nil || len(pairs) == 0 {
			return err
		}
		for _, pair := range pairs {
			if err := fn(pair); err != nil {
				return err
			}
		}
		rest.Begin = pairs[len(pairs)-1].Key.Only().End
	}
}

func (e *exporter) letters() error {
	defer e.close()
	dead := e.keys.Dead()
	return e.page(dead.Below(), func(pair backend.KeyValue) error {
		stamp, isLetter := pair.Key.CutStamp(dead)
		if !isLetter { // a row of a large one
			return nil
		}
		l, err := e.keys.LetterOf(e.tx, stamp, pair.Value)
		if err != nil {
			return err
		}
		l.Item = tenant.WithoutCaller(l.Item)
		e.add(len(l.Item)+len(l.Stack), func(p *piece) { p.Letters = append(p.Letters, portableLetter{stamp, l}) })
		return nil
	})
}

func (e *exporter) messages() error {
	defer e.close()
	for last := (queue.Item{}); ; {
		items, err := e.keys.Queue().Read(e.tx, last, maxPieceRows)
		if err != nil || len(items) == 0 {
			return err
		}
		for _, item := range items {
			m := portableItem{int(item.Lane), item.Stamp, tenant.WithoutCaller(item.Body)}
			e.add(len(item.Body), func(p *piece) { p.Messages = append(p.Messages, m) })
		}
		last = items[len(items)-1]
	}
}

func (e *exporter) state() error {
	defer e.close()
	root := e.keys.State()
	return e.page(root.Tree(), func(pair backend.KeyValue) error {
		key, _ := pair.Key.CutPrefix(root)
		e.add(len(key)+len(pair.Value), func(p *piece) { p.State = append(p.State, portableRow{key, pair.Value}) })
		return nil
	})
}

func (e *exporter) timers() error {
	defer e.close()
	return tenant.Children(e.tx, e.keys.Timers(), func(name string) error {
		record, err := e.keys.ReadTimer(e.tx, name).Get()
		if err == nil {
			e.add(len(record), func(p *piece) { p.Timers = append(p.Timers, portableRecord{name, record}) })
		}
		return err
	})
}

func (e *exporter) delayed() error {
	defer e.close()
	for rest := e.keys.Key.Str(tenant.KeyLater).Below(); ; {
		page, err := e.keys.ReadDelayed(e.tx, rest, true)
		if err != nil {
			return err
		}
		for _, d := range page.Found {
			bytes := 0
			for i, item := range d.Record.Items {
				d.Record.Items[i] = tenant.WithoutCaller(item)
				bytes += len(item)
			}
			e.add(bytes, func(p *piece) { p.Delayed = append(p.Delayed, portableSend{d.Word, d.Record}) })
		}
		if page.Last {
			return nil
		}
		rest = page.Rest
	}
}

func (e *exporter) onces() error {
	defer e.close()
	return tenant.Children(e.tx, e.keys.Key.Str(tenant.KeyOnce), func(key string) error {
		record, err := tenant.ReadLarge(e.tx, e.keys.Once(key)).Get()
		if err == nil {
			e.add(len(record), func(p *piece) { p.Once = append(p.Once, portableRecord{key, record}) })
		}
		return err
	})
}
