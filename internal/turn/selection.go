package turn

import (
	"slices"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// Choose decides what the attempt handles. A lost race pushes the arrivals: then the queue is not empty for anybody,
// which ends the race.
func (t *Turn) Choose() ([]Work, error) {
	if !t.Head.Killed.IsZero() || t.IsNewer() {
		return nil, nil
	}
	if t.IsElsewhere() {
		return nil, t.refuseElsewhere()
	}
	if t.Head.Paused.Is() && (t.Info != nil || !t.isRelease()) {
		return nil, t.refusePaused()
	}
	if t.Info != nil {
		t.Joined = 1
		return []Work{localWork(t.Info)}, nil
	}
	if t.isRelease() {
		return t.chooseRelease(t.Offered[0].Released)
	}
	limit := t.Limit
	if t.Runs > 3 {
		limit = max(1, limit>>(t.Runs-3))
	}
	stored := t.Ready(limit)
	messages := slices.Grow(stored, len(t.Offered))
	if t.Head.All && len(stored) == len(t.Head.Items) && t.Runs <= 1 && !t.Head.Lock.IsHeld() {
		t.Joined = min(len(t.Offered), limit-len(stored))
		for _, a := range t.Offered[:t.Joined] {
			messages = append(messages, localWork(a))
		}
	}
	return messages, nil
}

// IsNewer reports whether the state is one of a newer version of the program, which is left to consumers that have it.
func (t *Turn) IsNewer() bool { return t.Head.Meta.Schema > t.Def.Version }

// Label is the server's.
func (t *Turn) Label() string { return t.Head.LabelOf(t.Def.Settings.Label) }

// IsElsewhere reports whether the server is of a label that this consumer does not list.
func (t *Turn) IsElsewhere() bool { return !slices.Contains(t.Env.Labels, t.Label()) }

// refuseElsewhere is why nothing is chosen, where somebody waits for it: locked work has lost its lock with the pin.
func (t *Turn) refuseElsewhere() error {
	switch {
	case t.Info != nil:
		return tenant.Because(tenant.ErrElsewhere, "%v is pinned to %q: send it a call, or ask where a consumer lists that label", t.Ref, t.Label())
	case t.isRelease():
		return ErrLost
	}
	return nil
}

// isRelease reports whether the turn is for the end of locked work.
func (t *Turn) isRelease() bool { return len(t.Offered) > 0 && t.Offered[0].Released != nil }

// refusePaused is why nothing is chosen of a server that is paused, where somebody waits for it.
func (t *Turn) refusePaused() error {
	if t.Info == nil {
		return nil
	}
	return tenant.Because(tenant.ErrPaused, "%v: an operator resumes it; what is sent to it waits", t.Ref)
}

func (t *Turn) chooseRelease(r *Release) ([]Work, error) {
	if r.Fence != t.Head.Lock.Fence {
		return nil, ErrLost
	}
	t.Joined = 1
	env := r.Env
	env.Timer, env.Set = "", "" // its timer fired when the lock was taken
	return []Work{{Envelope: env, Item: &r.Item, Released: r, Attempt: r.Attempt}}, nil
}

// Ready is the stored messages that may be handled now, and here: of the lanes that do not back off, and under a lock of
// the priority lane alone. A lane is taken from its head on, and a normal message has its place among those of priority
// (lanes.go). A limit cuts the end off: a batch that is tried again has the messages that it had, up to the one that
// stopped it.
func (t *Turn) Ready(limit int) []Work {
	t.Unheard = [2]*Work{}
	var lanes [2][]queue.Item
	for _, item := range t.Head.Items {
		lanes[item.Lane] = append(lanes[item.Lane], item)
	}
	for lane, items := range lanes {
		if len(items) == 0 {
			continue
		}
		if wait := t.Memory.backOff(t.Head, items[0], time.Now()); wait > 0 {
			lanes[lane] = nil
			t.Waits = Soonest(t.Waits, wait)
		}
	}
	if t.Head.Lock.IsHeld() {
		lanes[queue.Normal] = nil
	}
	priority, normal := lanes[queue.Priority], lanes[queue.Normal]
	t.Able = len(priority) + len(normal)
	t.passes = len(priority) > 0 && len(normal) > 0
	ahead := t.Memory.passed.ahead(len(priority), len(normal))
	first := min(1, len(normal))
	batch := slices.Concat(priority[:ahead], normal[:first], priority[ahead:], normal[first:])
	return t.ours(batch[:min(len(batch), limit)])
}

// Soonest is the shorter of two waits, of which 0 is none.
func Soonest(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

func storedWork(item *queue.Item) Work {
	env, err := tenant.DecodeEnvelope(item.Body)
	return Work{Envelope: env, Item: item, unread: err}
}

func localWork(a *Arrival) Work {
	return Work{Arrival: a, Attempt: 1, Envelope: tenant.Envelope{Name: a.Message.Name, Body: a.Message.Body, Sent: a.Sent, Head: a.Head}}
}

// checkTimers finds the timer messages whose timer was moved or cancelled.
func (t *Turn) checkTimers(tx backend.Reader) (tenant.TimerReads, error) {
	var reads tenant.TimerReads
	for _, m := range t.Messages {
		if m.comesFromTimer() {
			reads.Start(tx, t.Keys, m.Envelope.Timer)
		}
	}
	for i, m := range t.Messages {
		if !m.comesFromTimer() {
			continue
		}
		r, err := reads.Get(m.Envelope.Timer)
		if err != nil {
			return nil, err
		}
		t.Messages[i].stale = r.Set != m.Envelope.Set
	}
	return reads, nil
}

// isOurs reports whether this consumer may handle a message. One that nobody can read is at fault itself.
func (t *Turn) isOurs(w Work) bool { return w.unread != nil || t.Def.Handles(w.Envelope.Name) }

// ours is the messages of a batch that this consumer can handle: each lane's up to the first that it cannot.
func (t *Turn) ours(batch []queue.Item) []Work {
	works := make([]Work, 0, len(batch))
	for i := range batch {
		item := &batch[i]
		if t.Unheard[item.Lane] != nil {
			t.Able--
			continue
		}
		if w := storedWork(item); t.isOurs(w) {
			w.Attempt = t.Head.Attempts[item.Lane].Of(*item) + 1
			works = append(works, w)
		} else {
			t.Unheard[item.Lane] = &w
			t.Able--
		}
	}
	return works
}

// IsAnothers reports whether a lane waits for another consumer.
func (t *Turn) IsAnothers() bool { return t.Unheard != [2]*Work{} }
