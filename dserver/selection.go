package dserver

import (
	"slices"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// choose decides what the attempt handles. A lost race pushes the arrivals: then the queue is not empty for anybody,
// which ends the race.
func (t *turn) choose() ([]work, error) {
	if !t.head.killed.IsZero() {
		return nil, nil
	}
	if t.head.meta.Schema > t.s.def.version {
		if t.c.left.isNew(t.s.ref()) {
			t.c.log.Warn().Stringer(logServer, t.s.ref()).Int(logSchema, t.head.meta.Schema).
				Msg("the state was written by a newer version of the program: left to consumers that have it")
		}
		return nil, nil
	}
	if t.info != nil {
		t.joined = 1
		return []work{localWork(t.info)}, nil
	}
	if len(t.locals) > 0 && t.locals[0].released != nil {
		return t.chooseRelease(t.locals[0].released)
	}
	limit := t.limit
	if t.runs > 3 {
		limit = max(1, limit>>(t.runs-3))
	}
	stored := t.ready(limit)
	messages := slices.Grow(stored, len(t.locals))
	if t.head.all && len(stored) == len(t.head.items) && t.runs <= 1 && !t.head.lock.isHeld() {
		t.joined = min(len(t.locals), limit-len(stored))
		for _, a := range t.locals[:t.joined] {
			messages = append(messages, localWork(a))
		}
	}
	return messages, nil
}

func (t *turn) chooseRelease(r *release) ([]work, error) {
	if r.fence != t.head.lock.fence {
		return nil, errLost
	}
	t.joined = 1
	env := r.env
	env.Timer, env.Set = "", "" // its timer fired when the lock was taken
	return []work{{envelope: env, item: &r.item, released: r}}, nil
}

// ready is the stored messages that may be handled now, and here: of the lanes that do not back off, and under a lock of
// the priority lane alone. A lane is taken from its head on, and a normal message has its place among those of priority
// (lanes.go). A limit cuts the end off: a batch that is tried again has the messages that it had, up to the one that
// stopped it.
func (t *turn) ready(limit int) []work {
	t.unheard = [2]*work{}
	var lanes [2][]queue.Item
	for _, item := range t.head.items {
		lanes[item.Lane] = append(lanes[item.Lane], item)
	}
	for lane, items := range lanes {
		if len(items) == 0 {
			continue
		}
		if wait := t.s.backOff(t.head, items[0], time.Now()); wait > 0 {
			lanes[lane] = nil
			t.waits = soonest(t.waits, wait)
		}
	}
	if t.head.lock.isHeld() {
		lanes[queue.Normal] = nil
	}
	priority, normal := lanes[queue.Priority], lanes[queue.Normal]
	t.able = len(priority) + len(normal)
	t.passes = len(priority) > 0 && len(normal) > 0
	ahead := t.s.passed.ahead(len(priority), len(normal))
	first := min(1, len(normal))
	batch := slices.Concat(priority[:ahead], normal[:first], priority[ahead:], normal[first:])
	return t.ours(batch[:min(len(batch), limit)])
}

// soonest is the shorter of two waits, of which 0 is none.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

func storedWork(item *queue.Item) work {
	env, err := decodeEnvelope(item.Body)
	return work{envelope: env, item: item, unread: err}
}

func localWork(a *arrival) work {
	return work{arrival: a, envelope: envelope{Name: a.message.Name, Body: a.message.Body}}
}

// checkTimers finds the timer messages whose timer was moved or cancelled.
func (t *turn) checkTimers(tx backend.Reader) (timerReads, error) {
	var reads timerReads
	for _, m := range t.messages {
		if m.comesFromTimer() {
			reads.start(tx, t.keys, m.envelope.Timer)
		}
	}
	for i, m := range t.messages {
		if !m.comesFromTimer() {
			continue
		}
		r, err := reads.get(m.envelope.Timer)
		if err != nil {
			return nil, err
		}
		t.messages[i].stale = r.Set != m.envelope.Set
	}
	return reads, nil
}
