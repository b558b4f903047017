package turn

import (
	"errors"
	"time"

	"github.com/dserver-go/dserver/internal/tenant"
)

// Hooks is what a program has around its handlers and locked work, and whom it tells of turns. Most programs have none: then
// it is nil, and nothing is asked or made for it.
type Hooks interface {
	// Handles reports whether Handle is to run around the handler of a message.
	Handles(s *Scope) bool

	// Handle runs around the handler of a message, within its turn and its time: it may run again, as the handler may. What it
	// returns is the handler's error (Around says with which exceptions), as it was that of its Run.
	Handle(s *Scope, handler *Around) error

	// Work runs around one attempt of locked work, likewise. It may give the attempt another context.
	Work(a *WorkAttempt, work *Around) error

	// Turned is told what became of a turn, after its commit or when there is none. Nothing waits for more than its return.
	Turned(r Report)
}

// Report is what became of a turn.
type Report struct {
	Server    tenant.Ref
	Began     time.Time
	Messages  []Handled
	Conflicts int           // how often its transaction ran again, as it had lost a race
	Handlers  time.Duration // that its handlers took, over all runs
	Commit    time.Duration // from the end of the handlers to the answer of the store; 0 when nothing was committed
	Cached    bool          // the state had not to be read
	TookOver  bool          // it took the lock of a consumer that vanished, and handled nothing
	Err       error         // of the store: it did not commit, as far as is known
}

// Handled is what became of one message.
type Handled struct {
	*Work
	Err        *tenant.Error // of its handler or its work; of a fault that is tried again, or was the last
	Faulted    bool          // Err is a fault: nothing of the message was committed
	DeadLetter bool
	Locks      bool          // it is handed to locked work
	Took       time.Duration // by its handler; 0 where none ran
}

// What interceptors may do wrong.
var (
	errNotRun = errors.New("dserver: an interceptor neither called next nor returned an error")
	errRanTwo = errors.New("dserver: an interceptor called next twice, or when it had returned")
)

// Around is a function that hooks are around: it runs once, while they do.
type Around struct {
	run    func() error
	ran    bool
	failed error // what it returned

	// A handler is not a function but what is needed to run it: one is made for each message.
	batch   *Batch
	scope   *Scope
	work    *Work
	handler *Handler
	reply   []byte
}

// Run is what hooks call.
func (o *Around) Run() error {
	if o.ran {
		return errRanTwo
	}
	o.ran = true
	if o.batch != nil {
		o.reply, o.failed = o.batch.prepared(o.scope, o.work, o.handler)
	} else {
		o.failed = o.run()
	}
	return o.failed
}

// outcome is the error of a function with the hooks around it, which returned err. They cannot make a success of a failure, as
// what the function did to the state is there; nor of a fault anything else, as it is tried again; nor leave it out in silence.
func (o *Around) outcome(err error) error {
	ran := o.ran
	o.ran = true
	switch {
	case o.failed != nil && (err == nil || asFault(o.failed) != nil):
		return o.failed
	case err == nil && !ran:
		return errNotRun
	}
	return err
}

// intercepted runs the handler of a message within the hooks. A panic of theirs is one of the handler.
func (b *Batch) intercepted(s *Scope, m *Work, h *Handler) (reply []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			reply, err = nil, Panicked(p)
		}
	}()
	o := &Around{batch: b, scope: s, work: m, handler: h}
	if err = o.outcome(b.hooks.Handle(s, o)); err != nil && !isKept(err) {
		return nil, err
	}
	return o.reply, err
}

// work runs locked work within the hooks. Its panics end in OutcomeOf.
func (l *Locked) work(hooks Hooks, a *WorkAttempt, state any, body []byte) (found any, err error) {
	if hooks == nil {
		return l.Work(a, state, body)
	}
	o := &Around{run: func() (err error) {
		found, err = l.Work(a, state, body)
		return err
	}}
	err = o.outcome(hooks.Work(a, o))
	return found, err
}

// Count is how many messages of a batch were handled, whatever became of them.
func (b *Batch) Count() (n int) {
	for _, r := range b.Results {
		if !r.Declined && !r.stale {
			n++
		}
	}
	return n
}

// report is what became of the messages of a batch that was committed.
func (t *Turn) report() []Handled {
	b := t.Batch
	all := make([]Handled, 0, len(b.Results))
	for i, r := range b.Results {
		if r.Declined || r.stale {
			continue
		}
		all = append(all, Handled{
			Work: r.Work, Err: r.Err, DeadLetter: r.Err != nil && !r.IsCall(), Locks: b.Locks && i == len(b.Results)-1, Took: r.took,
		})
	}
	if t.LockEnd.SetsAside {
		for i := range t.LockEnd.Items {
			w := &Work{Envelope: t.LockEnd.Answers.Envelopes[i], Item: &t.LockEnd.Items[i], Attempt: t.LockEnd.Attempts}
			all = append(all, Handled{Work: w, Err: t.LockEnd.Why, DeadLetter: true})
		}
	}
	return all
}

// Tell tells the hooks of a turn that was committed.
func (t *Turn) Tell() {
	t.tell(Report{Messages: t.report(), Commit: t.commit})
}

// TellIdle tells the hooks of a turn that handled nothing, where that is worth to be told: it has lost a race.
func (t *Turn) TellIdle() {
	if t.conflicts > 0 {
		t.tell(Report{})
	}
}

// TellOf tells the hooks what became of one message, of which nothing was committed.
func (t *Turn) TellOf(h Handled) {
	h.Took = t.Took // of all attempts, where another goroutine has the turn now
	if t.Batch != nil {
		h.Took = t.Batch.took
	}
	t.tell(Report{Messages: []Handled{h}})
}

// TellWhy tells the hooks that the turn did not commit.
func (t *Turn) TellWhy(err error) { t.tell(Report{Err: err}) }

// TellTakeOver tells the hooks that the lock of a consumer was taken over that vanished.
func (t *Turn) TellTakeOver() { t.tell(Report{TookOver: true}) }

func (t *Turn) tell(r Report) {
	r.Server, r.Began, r.Conflicts, r.Handlers, r.Cached = t.Ref, t.Began, t.conflicts, t.Took, t.cached
	t.Env.Hooks.Turned(r)
}
