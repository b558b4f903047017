package turn

import (
	"bytes"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Counted is what became of an attempt that failed. It is zero when another consumer counted it, or took the message.
type Counted struct {
	Attempts int
	Wait     time.Duration // until the next one
	Last     bool          // there is none: the message was set aside, or
	Halts    bool          // the server stops
}

// Count stores that an attempt failed, and sets the message aside after the last. It is a compare-and-set: when another
// consumer counted or took the message meanwhile, there is nothing to count.
func (t *Turn) Count(w Work, f *Fault) (n Counted, err error) {
	err = t.Env.DB.Transact(t.Env.Base, func(tx backend.Tx) error {
		t.Mine, n = nil, Counted{}
		now, isThere, err := t.Unchanged(tx, w)
		if err != nil || !isThere {
			return err
		}
		count := now.Of(*w.Item) + 1
		last := count >= t.Def.Settings.MaxAttempts
		n = Counted{Attempts: count, Wait: t.Def.Settings.BackOffAfter(count), Last: last, Halts: last && t.Def.Settings.Halt}
		if last && !n.Halts {
			return t.giveUp(tx, w, f, count)
		}
		t.Keys.SetAttempts(tx, w.Item.Lane, tenant.Attempts{Stamp: w.Item.Stamp, Count: count, Wait: n.Wait, Halts: last}, t.failure(w, f))
		return nil
	})
	return n, err
}

// giveUp sets the message aside, so that the queue goes on.
func (t *Turn) giveUp(tx backend.Tx, w Work, f *Fault, count int) error {
	end := tenant.Conclusion{Envelope: w.Envelope, Err: tenant.Because(tenant.ErrFault, "%s", f.Text)}
	var out tenant.Outbox
	var onces tenant.OnceReads
	onces.Start(tx, t.Keys, w.Envelope)
	t.Mine = out.Add(t.Env.Process.ID, end.Answers())
	if err := out.DropGone(tx, nil); err != nil {
		return err
	}
	t.Keys.Queue().Remove(tx, *w.Item)
	t.Keys.ClearAttempt(tx, w.Item.Lane)
	if err := t.Keys.WriteLetter(tx, w.Item, tenant.NewLetter(w.Item.Body, end.Err, f.Stack, count)); err != nil {
		return err
	}
	if err := t.Keys.StopTimer(tx, w.Envelope); err != nil {
		return err
	}
	if err := onces.Conclude(tx, t.Keys, end); err != nil {
		return err
	}
	tenant.SetReady(tx, t.Ref)
	return out.Write(tx)
}

// EndMessage sets a message aside for which there is nothing more to try, or halts its server.
func (t *Turn) EndMessage(tx backend.Tx, w Work, f *Fault, count int) (Counted, error) {
	n := Counted{Attempts: count, Last: true, Halts: t.Def.Settings.Halt}
	if !n.Halts {
		return n, t.giveUp(tx, w, f, count)
	}
	t.Keys.SetAttempts(tx, w.Item.Lane, tenant.Attempts{Stamp: w.Item.Stamp, Count: count, Halts: true}, t.failure(w, f))
	return n, nil
}

// failure is why an attempt of a message failed, as it is stored.
func (t *Turn) failure(w Work, f *Fault) tenant.Failure {
	return tenant.NewFailure(w.Item.Stamp, t.Def.Settings.MaxAttempts, f.Text, f.Stack)
}

// Unchanged reads the attempts of a message, so that a change of them, its disappearance, a pin, a pause or a kill is a
// conflict. It reports false when the message is not there, was tried or changed meanwhile, or may not be handled here now.
func (t *Turn) Unchanged(tx backend.Tx, w Work) (tenant.Attempts, bool, error) {
	item, found, err := t.Keys.Queue().Find(tx, w.Item.Stamp)
	if err != nil {
		return tenant.Attempts{}, false, err
	}
	now, err := t.Keys.ReadAttempts(tx, w.Item.Lane)
	if err != nil {
		return tenant.Attempts{}, false, err
	}
	pin, err := t.Keys.ReadPin(tx)
	if err != nil {
		return tenant.Attempts{}, false, err
	}
	paused, err := t.Keys.ReadPaused(tx)
	if err != nil {
		return tenant.Attempts{}, false, err
	}
	killed, err := t.Keys.KilledAt(tx)
	found = found && bytes.Equal(item.Body, w.Item.Body)
	return now, found && killed.IsZero() && !paused.Is() && pin == t.Head.Pin && now == t.Head.Attempts[w.Item.Lane], err
}

// Vanished is the fault of a message whose consumers vanished.
var Vanished = &Fault{Text: "the consumer vanished in each attempt"}
