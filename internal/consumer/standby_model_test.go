package consumer

import (
	"fmt"
	"os"
	"testing"
)

// A model of what wakes consumers (ready.go, due.go, standby.go, mailbox/pulse.go): one server, its mark and the bell of its
// shard, a timer with its row and its alarm, and two or three consumers, each with a scanner, a worker, a mover of what is due and
// a pulse. All interleavings are looked at of their reads and commits, with pushes, turns that take long, stops in order and
// crashes. Consumers have the order of their indices for the server.
//
// Time is discrete: a tick is the interval of a pulse, and comes when all that can be done at once is done. There is no look
// after LookInterval, but where a crew says so: bells, alarms and pulses must suffice. So a wake-up that is lost is a message that
// waits for ever; and of each state that can be reached it is known how long its messages have waited.
//
// It leaves out what waits by the clock alone: claims (claim.go) and parking (parked.go), of which pin_model_test.go is, and what
// is read again of who the peers are.

// wakeRule is a rule that the model leaves out: then it must find a wait that is too long.
type wakeRule int

const (
	allRules               wakeRule = iota
	pushRingsNoBell                 // rule 43
	pushSetsNoMark                  // rule 43
	watchComesAfterTheRead          // rule 44, of marks
	confirmSeesNoPush               // rule 6: emptiness is no conflict
	unmarkComesLate                 // after the mark is cleared (consumer.unmark)
	timerRingsNoAlarm               // rule 33
	alarmComesAfterTheRead          // rule 44, of what is due
	movedRowSetsNoMark              // rule 43
	movedRowRingsNoBell             // rule 43
	bystandersWaitForABell          // rule 1 of standby.go: they look in short intervals
	silenceIsAwaited                // rule 2
	stopLeavesThePulse              // rule 3, and 102
	releaseRingsNoBell              // rule 43, of the messages behind locked work
	vacateRingsNoBell               // rule 43, of a lock that is given up
	nobodyWatchesHolders            // rule 37
	fullSaysNothing                 // rule 4
	peersAreAwaitedForEver          // rule 5
	wakeRules
)

// Ticks.
const (
	modelSilent = 3  // mailbox.SilentAfter, but one less
	modelSlow   = 5  // a turn that takes long
	modelDue    = 2  // from when a timer is set
	modelLease  = 6  // from when a holder's beats are watched, and there are none
	modelNever  = 30 // longer than anything waits
)

type (
	scanPhase  uint8
	wakeTx     uint8
	moverPhase uint8
)

const (
	scanReads    scanPhase = iota
	scanWatches            // it has read, and its watch is not set: only where that comes after the read
	scanDecides            // it has read the marks, and looks at the pulses
	scanSleeps             // it stands by
	scanIsPaused           // it waits for the bell
	scanHasEnded
)

const (
	noWakeTx wakeTx = iota
	wakeTurn
	wakeConfirm
)

const (
	moverReads moverPhase = iota
	moverWatches
	moverWaits
	moverHasEnded
)

// seenPulse is mailbox.Pulse.
type seenPulse struct {
	known, had, silent bool
	changed            bool // it has, since it was read
	age                uint8
}

type wakeConsumer struct {
	alive, stops bool
	removes      bool // its pulse, as it stops

	scan   scanPhase
	sleeps uint8 // ticks
	rung   bool  // its watch has fired
	saw    bool  // a mark
	stands bool  // by: first counts
	first  uint8
	looked uint8 // ticks since the last look
	pulses [3]seenPulse
	peered bool
	beats  bool // its pulse's interval is over
	worked bool

	look, marked bool
	tx           wakeTx
	takes        uint8 // messages
	lasts        uint8 // ticks
	lost         bool
	wasMarked    bool // by the turn
	locked       uint8
	late         bool // unmarkComesLate: it has cleared the mark, and does not know it yet

	holds   bool // work under the lock runs here
	work    uint8
	watches bool // the lock's holder
	still   uint8

	mover moverPhase
	alarm bool // its watch has fired
	knows bool // of the timer
}

type wakeState struct {
	waits    [2]uint8 // the ages of the messages that wait, in their order, from 1 on
	heavy    [2]bool  // done under the lock
	lock     uint8    // its holder, from 1 on, or vacant; 0: it is not locked
	lockAge  uint8    // of the message under it
	mark     bool
	idleMark uint8 // how long a mark has led to nothing
	timer    uint8 // ticks until it is due, from 1 on; 0: there is none
	overdue  uint8
	isDue    bool
	pulse    [3]bool
	full     [3]bool // as the pulse says

	consumers [3]wakeConsumer

	pushes, heavies, timers, slows, stops, crashes uint8
}

func (s *wakeState) count() (n uint8) {
	for _, age := range s.waits {
		if age > 0 {
			n++
		}
	}
	return n
}

// forget is of what no later step asks for, so that states are fewer.
func (m *wakeModel) forget(s *wakeState) {
	for i := range s.consumers {
		c := &s.consumers[i]
		if !c.alive {
			*c = wakeConsumer{}
			continue
		}
		if c.looked > modelSilent { // the next look begins anew
			c.stands, c.first = false, 0
		}
		if !c.stands {
			c.first = 0
		}
		for j := range c.pulses {
			p := &c.pulses[j]
			switch {
			case j >= i, c.stops: // nobody waits for who is behind
				*p = seenPulse{}
			case c.looked > modelSilent, p.silent:
				p.age = 0
			}
		}
		if i == 0 {
			c.looked = 0
		}
		if i == m.wakeCrew.consumers-1 { // nobody waits for it
			c.beats, c.worked, c.peered, s.pulse[i] = false, false, false, false
		}
		switch c.scan {
		case scanReads, scanSleeps, scanHasEnded:
			c.rung, c.saw = false, false
		case scanIsPaused:
			c.saw = false
		}
		if c.tx != wakeTurn {
			c.takes, c.lasts, c.wasMarked, c.locked = 0, 0, false, 0
		}
		if !c.watches || c.stops {
			c.watches, c.still = false, 0
		}
		if !c.holds {
			c.work = 0
		}
		if c.tx == noWakeTx {
			c.lost = false
		}
		if c.mover != moverWaits {
			c.knows = false
		}
		if c.mover == moverReads || c.mover == moverHasEnded || s.timer == 0 && s.timers == 0 && !s.isDue {
			c.alarm = false
		}
		if c.stops {
			c.stands, c.first, c.looked, c.worked, c.look = false, 0, 0, false, false
		}
	}
}

// wakeCrew is who is there, and what may happen.
type wakeCrew struct {
	name      string
	isLong    bool
	consumers int
	begin     wakeState
	most      uint8   // ticks that a message, a timer that is due, or a mark of an empty queue may wait
	look      uint8   // LookInterval in ticks; 0: there is none
	livesOn   [3]bool // when it stops, another consumer of its process is at work, which has the same pulse
	isKnown   bool    // the first has a pulse, which the others have seen
	stranger  bool    // the first is not known to the others
	works     [3]bool // it is always at work, with other servers
	hangs     [3]bool // it leaves the server alone
	isFull    [3]bool // more servers wait than it can run: its turns of this one do not begin
}

type wakeModel struct {
	wakeCrew
	out wakeRule
}

// send puts a message on the queue.
func (m *wakeModel) send(s *wakeState, heavy, mark, bell bool) {
	n := s.count()
	s.waits[n], s.heavy[n] = 1, heavy
	for i := range s.consumers {
		if c := &s.consumers[i]; c.tx == wakeConfirm && m.out != confirmSeesNoPush {
			c.lost = true
		}
	}
	s.setReady(mark, bell)
}

func (s *wakeState) setReady(mark, bell bool) {
	s.mark = s.mark || mark
	for i := range s.consumers {
		s.consumers[i].rung = s.consumers[i].rung || bell
	}
}

// setLock gives the lock another fence, which is a conflict of all turns.
func (s *wakeState) setLock(holder uint8) {
	s.lock = holder
	if holder == 0 {
		s.lockAge = 0
	}
	for i := range s.consumers {
		c := &s.consumers[i]
		c.lost, c.watches = c.lost || c.tx != noWakeTx, false
	}
}

// byEnvironment is the states after a step that nobody has to take.
func (m *wakeModel) byEnvironment(s wakeState) (next []wakeState) {
	if s.pushes > 0 && s.count() < 2 {
		n := s
		n.pushes--
		m.send(&n, false, m.out != pushSetsNoMark, m.out != pushRingsNoBell)
		next = append(next, n)
	}
	if s.heavies > 0 && s.count() < 2 {
		n := s
		n.heavies--
		m.send(&n, true, m.out != pushSetsNoMark, m.out != pushRingsNoBell)
		next = append(next, n)
	}
	if s.timers > 0 {
		n := s
		n.timers--
		n.timer = modelDue
		if m.out != timerRingsNoAlarm {
			for i := range n.consumers {
				n.consumers[i].alarm = true
			}
		}
		next = append(next, n)
	}
	for i, c := range s.consumers {
		if s.stops > 0 && c.alive && !c.stops {
			n := s
			n.stops--
			d := &n.consumers[i]
			d.stops, d.beats, d.scan, d.mover, d.look = true, false, scanHasEnded, moverHasEnded, false
			d.removes = n.pulse[i] && m.out != stopLeavesThePulse
			next = append(next, n)
		}
		if s.crashes > 0 && c.alive {
			n := s
			n.crashes--
			n.consumers[i] = wakeConsumer{}
			next = append(next, n)
		}
	}
	return next
}

// byConsumer is the states after a step that a consumer takes at once.
func (m *wakeModel) byConsumer(s wakeState, i int) (next []wakeState) {
	step := func(change func(n *wakeState, c *wakeConsumer)) {
		n := s
		change(&n, &n.consumers[i])
		next = append(next, n)
	}
	c := &s.consumers[i]
	if !c.alive {
		return nil
	}
	switch c.scan {
	case scanReads:
		step(m.readMarks)
	case scanWatches:
		step(func(_ *wakeState, c *wakeConsumer) { c.scan, c.rung = scanDecides, false })
	case scanDecides:
		step(func(n *wakeState, c *wakeConsumer) { m.decide(n, c, i) })
	case scanIsPaused:
		if c.rung {
			step(func(_ *wakeState, c *wakeConsumer) { c.scan = scanReads })
		}
	}
	switch {
	case c.late:
		step(func(_ *wakeState, c *wakeConsumer) { c.late, c.marked = false, false })
	case c.tx == noWakeTx && c.look && !m.isFull[i] && !m.hangs[i]:
		step(func(n *wakeState, c *wakeConsumer) { m.beginTurn(n, c) })
		if s.slows > 0 && s.count() > 0 {
			step(func(n *wakeState, c *wakeConsumer) {
				n.slows--
				m.beginTurn(n, c)
				c.lasts = modelSlow
			})
		}
	case c.tx == wakeTurn && c.lasts == 0:
		step(func(n *wakeState, c *wakeConsumer) { m.endTurn(n, c, i) })
		if c.takes > 0 && s.heavy[0] && !c.lost && s.slows > 0 {
			step(func(n *wakeState, c *wakeConsumer) {
				n.slows--
				m.endTurn(n, c, i)
				c.work = modelSlow
			})
		}
	case c.tx == wakeConfirm:
		step(m.confirm)
	}
	if c.holds && c.work == 0 && c.tx == noWakeTx {
		step(func(n *wakeState, c *wakeConsumer) { m.release(n, c, i) })
	}
	if c.holds && c.stops {
		step(func(n *wakeState, c *wakeConsumer) { m.vacate(n, c, i) })
	}
	if c.watches && c.still >= modelLease && !c.look && c.tx == noWakeTx {
		step(func(_ *wakeState, c *wakeConsumer) { c.look, c.marked = true, true })
	}
	if c.beats {
		step(func(n *wakeState, c *wakeConsumer) { m.beat(n, c, i) })
	}
	if c.removes {
		step(func(n *wakeState, c *wakeConsumer) { stopPulse(n, c, i) })
	}
	if c.mover != moverHasEnded {
		next = append(next, m.move(s, i)...)
	}
	return next
}

// readMarks is bystander.begin, and the read of scanOnce, in which the bell is watched.
func (m *wakeModel) readMarks(s *wakeState, c *wakeConsumer) {
	if c.looked > modelSilent {
		c.stands = false
		for j := range c.pulses {
			c.pulses[j].age = 0
		}
	}
	c.looked = 0
	c.saw = s.mark
	if c.scan = scanDecides; m.out == watchComesAfterTheRead {
		c.scan = scanWatches
	} else {
		c.rung = false
	}
}

// decide is bystander.standsBy and end.
func (m *wakeModel) decide(s *wakeState, c *wakeConsumer, i int) {
	if !c.saw {
		c.scan, c.stands = scanIsPaused, false
		return
	}
	c.peered = true
	if !c.stands {
		c.stands, c.first = true, 0
	}
	if isLate := m.look > 0 && c.first >= m.look; !isLate || m.out == peersAreAwaitedForEver {
		from := 0
		if m.stranger {
			from = 1
		}
		for j := from; j < i; j++ {
			if m.readPulse(s, c, j); m.isAwaited(s, c, j) {
				c.scan, c.sleeps = scanSleeps, 2
				if j == i-1 {
					c.sleeps = 1
				}
				if m.out == bystandersWaitForABell {
					c.scan = scanIsPaused
				}
				return
			}
		}
	}
	c.scan, c.stands, c.look, c.marked = scanIsPaused, false, true, true
}

// readPulse is Pulse.Next of a peer.
func (m *wakeModel) readPulse(s *wakeState, c *wakeConsumer, j int) {
	p := &c.pulses[j]
	switch {
	case p.known && p.had && !s.pulse[j]:
		*p = seenPulse{known: true, silent: true}
	case !p.known, p.changed && s.pulse[j], p.had != s.pulse[j]:
		*p = seenPulse{known: true, had: s.pulse[j]}
	}
	p.changed = false
}

// isAwaited is Pulse.IsAwaited.
func (m *wakeModel) isAwaited(s *wakeState, c *wakeConsumer, j int) bool {
	p := &c.pulses[j]
	if p.silent || p.had && s.full[j] {
		return false
	}
	if m.out != silenceIsAwaited {
		p.silent = min(c.first, p.age) >= modelSilent
	}
	return !p.silent
}

func (m *wakeModel) beginTurn(s *wakeState, c *wakeConsumer) {
	c.look, c.wasMarked, c.locked = false, c.marked, s.lock
	c.tx, c.takes, c.lasts, c.lost = wakeTurn, 0, 0, false
	for c.locked == 0 && c.takes < s.count() && !s.heavy[c.takes] {
		c.takes++
	}
	if c.locked == 0 && c.takes == 0 {
		c.takes = min(s.count(), 1)
	}
}

// endTurn is the commit of a turn, or finishIdle, and settle.
func (m *wakeModel) endTurn(s *wakeState, c *wakeConsumer, i int) {
	c.tx, c.worked = noWakeTx, true
	switch {
	case c.lost:
		c.look = true
	case c.locked > 0:
		m.watchLock(s, c, i)
	case c.takes > 0:
		m.take(s, c, i)
	case c.wasMarked && !c.stops:
		if m.out != unmarkComesLate {
			c.marked = false
		}
		if c.tx, c.lost = wakeConfirm, false; s.count() > 0 || s.lock > 0 {
			c.tx, c.look, c.marked = noWakeTx, true, true
		}
	}
	if c.stops {
		c.look = false
	}
}

// take is the commit of messages, or of a lock.
func (m *wakeModel) take(s *wakeState, c *wakeConsumer, i int) {
	isHeavy, age := s.heavy[0], s.waits[0]
	for k := range s.waits {
		if from := k + int(c.takes); from < len(s.waits) {
			s.waits[k], s.heavy[k] = s.waits[from], s.heavy[from]
		} else {
			s.waits[k], s.heavy[k] = 0, false
		}
	}
	for k := range s.consumers { // each message is a conflict of who takes it
		if d := &s.consumers[k]; d != c && d.tx == wakeTurn && d.takes > 0 {
			d.lost = true
		}
	}
	if c.look = true; isHeavy {
		s.setLock(uint8(i + 1))
		s.lockAge, c.holds, c.work, c.look = age, true, 0, false // the end of the lock makes it look
	}
}

// vacant is the holder of a lock that was given up.
const vacant = 9

// watchLock is visit.watchLock, and the take-over.
func (m *wakeModel) watchLock(s *wakeState, c *wakeConsumer, i int) {
	isMine := c.locked == uint8(i+1)
	switch {
	case isMine && c.holds, c.stops:
	case isMine, c.locked == vacant, c.watches && c.still >= modelLease:
		s.setLock(uint8(i + 1))
		c.holds, c.work = true, 0
	case !c.watches && m.out != nobodyWatchesHolders:
		c.watches, c.still = true, 0
	}
}

// release is the end of work.
func (m *wakeModel) release(s *wakeState, c *wakeConsumer, i int) {
	if c.holds = false; s.lock == uint8(i+1) {
		s.setLock(0)
		s.setReady(true, m.out != releaseRingsNoBell)
	}
	c.look, c.marked = !c.stops, true
}

// vacate gives the lock up.
func (m *wakeModel) vacate(s *wakeState, c *wakeConsumer, i int) {
	if c.holds = false; s.lock == uint8(i+1) {
		s.setLock(vacant)
		s.setReady(true, m.out != vacateRingsNoBell)
	}
}

// confirm is the commit of confirmEmpty.
func (m *wakeModel) confirm(s *wakeState, c *wakeConsumer) {
	c.tx, c.worked = noWakeTx, true
	if c.lost && (s.count() > 0 || s.lock > 0) {
		c.look, c.marked = !c.stops, true
		return
	}
	s.mark = false
	c.late = m.out == unmarkComesLate
}

// beat is a turn of consumer.pulse.
func (m *wakeModel) beat(s *wakeState, c *wakeConsumer, i int) {
	c.beats = false
	works := c.worked || c.stops || c.tx != noWakeTx || c.look || m.works[i] || m.isFull[i]
	if c.worked = false; !works || !c.peered {
		return
	}
	s.pulse[i], s.full[i] = true, m.isFull[i] && m.out != fullSaysNothing
	for j := range s.consumers {
		s.consumers[j].pulses[i].changed = true
	}
}

// stopPulse is consumer.stopPulse.
func stopPulse(s *wakeState, c *wakeConsumer, i int) {
	c.removes, s.pulse[i], s.full[i] = false, false, false
}

// move is moveDue: the read of the first row, in which the alarm is watched, the wait, and the commit that moves it.
func (m *wakeModel) move(s wakeState, i int) (next []wakeState) {
	step := func(change func(n *wakeState, c *wakeConsumer)) {
		n := s
		change(&n, &n.consumers[i])
		next = append(next, n)
	}
	isThere := s.timer > 0 || s.isDue
	switch c := &s.consumers[i]; {
	case c.mover == moverReads && s.isDue:
		step(func(n *wakeState, c *wakeConsumer) { // it reads again in that commit
			n.isDue, n.overdue = false, 0
			m.send(n, false, m.out != movedRowSetsNoMark, m.out != movedRowRingsNoBell)
			if m.out != movedRowSetsNoMark {
				c.look, c.marked = true, true // Process.Wake
			}
		})
	case c.mover == moverReads:
		step(func(_ *wakeState, c *wakeConsumer) {
			c.knows = isThere
			if c.mover = moverWaits; m.out == alarmComesAfterTheRead {
				c.mover = moverWatches
			} else {
				c.alarm = false
			}
		})
	case c.mover == moverWatches:
		step(func(_ *wakeState, c *wakeConsumer) { c.mover, c.alarm = moverWaits, false })
	case c.mover == moverWaits && (c.alarm || c.knows && s.timer == 0):
		step(func(_ *wakeState, c *wakeConsumer) { c.mover, c.knows = moverReads, false })
	}
	return next
}

// tick lets time pass.
func (m *wakeModel) tick(s wakeState) wakeState {
	older := func(age *uint8, most uint8) { *age = min(*age+1, most) }
	for i := range s.waits {
		if s.waits[i] > 0 {
			older(&s.waits[i], modelNever)
		}
	}
	if s.timer > 0 {
		s.timer--
		s.isDue = s.timer == 0
	} else if s.isDue {
		older(&s.overdue, modelNever)
	}
	if s.lock > 0 {
		older(&s.lockAge, modelNever)
	}
	s.idleMark++
	if !s.mark || s.count() > 0 || s.lock > 0 {
		s.idleMark = 0
	}
	s.idleMark = min(s.idleMark, modelNever)
	for i := range s.consumers {
		c := &s.consumers[i]
		if !c.alive {
			continue
		}
		older(&c.looked, modelSilent+1)
		c.beats = !c.stops || m.livesOn[i]
		if c.stands {
			older(&c.first, max(modelSilent, m.look))
		}
		for j := range c.pulses {
			if c.pulses[j].known {
				older(&c.pulses[j].age, modelSilent)
			}
		}
		if c.lasts > 0 {
			c.lasts--
		}
		if c.work > 0 {
			c.work--
		}
		if isHeld := s.lock > 0 && s.lock != vacant && s.consumers[s.lock-1].holds; c.watches && !isHeld {
			older(&c.still, modelLease)
		} else {
			c.still = 0
		}
		if c.scan == scanSleeps {
			if c.sleeps--; c.sleeps == 0 {
				c.scan = scanReads
			}
		}
	}
	return s
}

// judge says what has waited for too long.
func (m *wakeModel) judge(s *wakeState) string {
	isServed := false
	for _, c := range s.consumers {
		isServed = isServed || c.alive && !c.stops
	}
	switch {
	case !isServed:
	case s.waits[0] > m.most:
		return fmt.Sprintf("a message has waited for %d ticks", s.waits[0])
	case s.lockAge > m.most:
		return fmt.Sprintf("a message that is done under the lock has waited for %d ticks", s.lockAge)
	case s.overdue > m.most:
		return fmt.Sprintf("a timer is due since %d ticks", s.overdue)
	case s.idleMark > m.most:
		return fmt.Sprintf("a mark has led to nothing for %d ticks", s.idleMark)
	}
	return ""
}

// explore finds all states, and says what is wrong with one of them and how it came to that, or "".
func (m *wakeModel) explore() (states int, longest uint8, wrong string) {
	type from struct {
		state int32
		step  string
	}
	begin := m.begin
	for i := range m.wakeCrew.consumers {
		begin.consumers[i] = wakeConsumer{alive: true, scan: scanIsPaused, mover: moverWaits}
	}
	if m.isKnown {
		begin.pulse[0], begin.full[0], begin.consumers[0].peered = true, m.isFull[0] && m.out != fullSaysNothing, true
		for i := 1; i < m.wakeCrew.consumers; i++ {
			begin.consumers[i].pulses[0] = seenPulse{known: true, had: true}
		}
	}
	m.forget(&begin)
	all, came, known := []wakeState{begin}, []from{{-1, "it begins"}}, map[wakeState]struct{}{begin: {}}
	for n := 0; n < len(all); n++ {
		s := all[n]
		longest = max(longest, s.waits[0], s.lockAge, s.overdue, s.idleMark)
		if wrong = m.judge(&s); wrong != "" {
			for at := int32(n); at >= 0; at = came[at].state {
				wrong += fmt.Sprintf("\n  before: %s", came[at].step)
			}
			return len(all), longest, fmt.Sprintf("%s\n  it is %+v", wrong, s)
		}
		add := func(next []wakeState, step string) {
			for _, t := range next {
				m.forget(&t)
				if _, isKnown := known[t]; !isKnown {
					known[t] = struct{}{}
					all = append(all, t)
					came = append(came, from{int32(n), step})
				}
			}
		}
		canWait := true
		for i := range s.consumers {
			steps := m.byConsumer(s, i)
			canWait = canWait && len(steps) == 0
			add(steps, fmt.Sprintf("consumer %d: scan %d, tx %d, mover %d", i, s.consumers[i].scan, s.consumers[i].tx, s.consumers[i].mover))
		}
		add(m.byEnvironment(s), "a push, a timer, a stop or a crash")
		if canWait {
			add([]wakeState{m.tick(s)}, "tick")
		}
	}
	return len(all), longest, ""
}

// wakeCrews are small, and each is a reason to wait. What they wait at most is what the rules come to: who stands by looks after
// two ticks at the latest; three ticks of silence, and one more, tell that a peer is gone; a lease is six, and a turn or work that
// takes long are five.
var wakeCrews = []wakeCrew{
	{name: "two", consumers: 2, most: 6, begin: wakeState{pushes: 2, slows: 1}},
	{name: "one dies", consumers: 2, most: 10, begin: wakeState{pushes: 1, slows: 1, crashes: 1}},
	{name: "one stops", consumers: 2, most: 9, begin: wakeState{pushes: 2, slows: 1, stops: 1}},
	{name: "a timer", consumers: 2, most: 1, begin: wakeState{timers: 1}},
	{name: "a timer, one dies", consumers: 2, most: 5, begin: wakeState{timers: 1, crashes: 1}},
	{name: "a timer, one stops", consumers: 2, most: 4, begin: wakeState{timers: 1, stops: 1}},
	{name: "the first works for others, one stops", consumers: 2, most: 2, works: [3]bool{true}, isKnown: true, begin: wakeState{pushes: 2, stops: 1}},
	{name: "the first works for others, one dies", consumers: 2, most: 5, works: [3]bool{true}, isKnown: true, begin: wakeState{pushes: 2, crashes: 1}},
	{name: "the first hangs", consumers: 2, most: 9, look: 8, works: [3]bool{true}, hangs: [3]bool{true}, begin: wakeState{pushes: 1}},
	{name: "the first is full", consumers: 2, most: 1, isFull: [3]bool{true}, isKnown: true, begin: wakeState{pushes: 1}},
	{name: "the first is a stranger", consumers: 2, most: 1, stranger: true, begin: wakeState{pushes: 2, crashes: 1}},
	{name: "one stops, and its process works on", consumers: 2, most: 9, look: 8, livesOn: [3]bool{true}, begin: wakeState{pushes: 1, stops: 1}},
	{name: "locked work, one stops", consumers: 2, most: 4, begin: wakeState{heavies: 1, pushes: 1, stops: 1}},
	{name: "locked work, one dies", consumers: 2, most: 11, begin: wakeState{heavies: 1, crashes: 1}},
	{name: "long locked work", isLong: true, consumers: 2, most: 6, begin: wakeState{heavies: 1, pushes: 1, slows: 1}},
	{name: "long locked work, one stops", isLong: true, consumers: 2, most: 9, begin: wakeState{heavies: 1, pushes: 1, slows: 1, stops: 1}},
	{name: "long locked work, one dies", isLong: true, consumers: 2, most: 16, begin: wakeState{heavies: 1, pushes: 1, slows: 1, crashes: 1}},
	{name: "three", isLong: true, consumers: 3, most: 6, begin: wakeState{pushes: 1, slows: 1}},
	{name: "three, one dies", isLong: true, consumers: 3, most: 5, begin: wakeState{pushes: 1, crashes: 1}},
	{name: "three, one stops", isLong: true, consumers: 3, most: 4, begin: wakeState{pushes: 1, stops: 1}},
	{name: "three, the first works for others", isLong: true, consumers: 3, most: 2, works: [3]bool{true}, isKnown: true, begin: wakeState{pushes: 1, stops: 1}},
	{name: "a timer and a message", isLong: true, consumers: 2, most: 1, begin: wakeState{timers: 1, pushes: 1}},
}

func TestModelOfWakingLosesNothing(t *testing.T) {
	t.Parallel()
	for _, crew := range wakeCrews {
		if crew.isLong && os.Getenv("LONG") == "" {
			continue
		}
		m := &wakeModel{wakeCrew: crew}
		states, longest, wrong := m.explore()
		t.Logf("%s: %d states, %d ticks at most", crew.name, states, longest)
		if wrong != "" {
			t.Errorf("%s: %s", crew.name, wrong)
		}
	}
}

// foundBy is the crew that shows what a rule is for.
var foundBy = map[wakeRule]string{
	pushRingsNoBell: "two", pushSetsNoMark: "two", watchComesAfterTheRead: "one stops", confirmSeesNoPush: "two", unmarkComesLate: "one stops",
	timerRingsNoAlarm: "a timer", alarmComesAfterTheRead: "a timer", movedRowSetsNoMark: "a timer", movedRowRingsNoBell: "a timer, one dies",
	bystandersWaitForABell: "one dies", silenceIsAwaited: "one dies", fullSaysNothing: "the first is full", peersAreAwaitedForEver: "the first hangs",
	stopLeavesThePulse:   "the first works for others, one stops",
	releaseRingsNoBell:   "locked work, one stops",
	vacateRingsNoBell:    "locked work, one stops",
	nobodyWatchesHolders: "locked work, one dies",
}

// Without any of the rules something waits for ever, or, where a stop leaves the pulse, until that has been silent.
func TestModelOfWakingNeedsEachRule(t *testing.T) {
	t.Parallel()
	for out := allRules + 1; out < wakeRules; out++ {
		found := ""
		for _, crew := range wakeCrews {
			if crew.name != foundBy[out] {
				continue
			}
			if out != stopLeavesThePulse { // which costs a time, and no more
				crew.most = modelNever - 1
			}
			m := &wakeModel{wakeCrew: crew, out: out}
			if _, _, wrong := m.explore(); wrong != "" {
				found = crew.name + ": " + wrong
				break
			}
		}
		t.Logf("%d: %.200s", out, found)
		if found == "" {
			t.Errorf("without rule %d nothing goes wrong", out)
		}
	}
}
