package consumer

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

// A model of what leads consumers to a server that is pinned here and there (elsewhere.go, parked.go, tenant/pin.go): the
// mark, the row of those that wait, and the rows below labels, of one server. All interleavings are looked at, of pushes,
// pins, kills, halts and crashes with the reads and the commits of up to three consumers, on stores that find a conflict in
// each write and on those that compare values, as SQLite does between processes. It has no time but that rests end, and no
// bells: a look needs none, and no wait may rest on them.
//
// From each state that can be reached there must be a way, by steps of the consumers alone, to one in which what waits is
// handled, and then to one in which nothing leads to the server. As that is so of each state on the way, and these are
// finitely many, fair steps find it.

// ruleOut is a rule that the model leaves out: then it must find something wrong.
type ruleOut int

const (
	asItIs               ruleOut = iota
	turnIgnoresPin               // it is no conflict of a turn
	parkingIgnoresPin            // nor of parking
	pinLeavesTheOldRow           // instead of removing it
	pinWritesNoRow               // below the new label
	wrongRowsStay                // nobody mends them
	parkingIgnoresMark           // the mark is no conflict of parking
	parkingIgnoresHead           // nor is what has come beside a mark that was there
	confirmIgnoresPushes         // emptiness is no conflict
	emptyMarksStay               // of servers that are another's
	confirmKnowsOneRow           // that of the server's label
)

type modelTx uint8

const (
	noTx modelTx = iota
	inTurn
	inParking
	inConfirming
)

// modelHead is what a turn reads.
type modelHead struct {
	pin      uint8
	normal   uint8 // how many messages wait
	halted   bool  // and the first of them halts the server
	priority bool  // one that goes past it
}

func (h modelHead) waits() bool { return h.normal > 0 || h.priority }
func (h modelHead) able() bool  { return h.priority || h.normal > 0 && !h.halted }

type modelStore struct {
	modelHead
	mark bool
	wait bool    // the row of those that wait
	rows [2]bool // below the labels; the first is ""
}

func (s *modelStore) place(label uint8) *bool {
	if label == 0 {
		return &s.wait
	}
	return &s.rows[label]
}

type modelConsumer struct {
	alive     bool
	look      bool
	marked    bool
	called    bool
	row       bool
	rests     bool
	elsewhere bool // it was, at the last look

	tx          modelTx
	head        modelHead
	mark, place bool // as parking read them
	lost        bool
}

type modelState struct {
	modelStore
	consumers [3]modelConsumer
	pushes    uint8
	pins      uint8
	halts     uint8
	kills     uint8
	crashes   uint8
	wrong     bool // a turn was committed where it may not be
}

// forget is of what no later step asks for, so that states are fewer.
func (c *modelConsumer) forget() {
	switch c.tx {
	case noTx:
		c.head, c.mark, c.place, c.lost = modelHead{}, false, false, false
	case inTurn:
		c.mark, c.place = false, false
	case inConfirming:
		c.head, c.mark, c.place, c.lost = modelHead{pin: c.head.pin}, false, false, false
	}
	if c.called && c.tx == noTx { // it looks, and knows then that there is a row
		c.row, c.rests = true, false
	}
}

// pinModel explores.
type pinModel struct {
	out     ruleOut
	byValue bool
	labels  [3][]uint8 // that the consumers list; nil: there is none

	states []modelState
	known  map[modelState]int32
	before [][]int32 // by state, those from which a consumer's step leads to it
}

func (m *pinModel) lists(i int, label uint8) bool { return slices.Contains(m.labels[i], label) }

// What a write is of.
const (
	ofPin = 1 << iota
	ofMark
	ofWait
	ofRow0
	ofRow1
	ofHead // a message came, or the server halts or goes on
	ofMessages
)

var ofRow = [2]int{ofRow0, ofRow1}

// wrote makes transactions lose that have as a conflict what was written.
func (m *pinModel) wrote(s *modelState, what int) {
	for i := range s.consumers {
		c := &s.consumers[i]
		conflicts := 0
		switch c.tx {
		case inTurn:
			conflicts = ofMessages // each is itself: no other one has its place
			if !m.byValue && m.out != turnIgnoresPin {
				conflicts |= ofPin
			}
		case inParking:
			if m.out != parkingIgnoresHead {
				conflicts = ofMessages
			}
			if !m.byValue {
				conflicts |= m.ofParking(c)
			}
		}
		c.lost = c.lost || what&conflicts != 0
	}
}

func (m *pinModel) ofParking(c *modelConsumer) int {
	conflicts := ofWait
	if c.head.pin > 0 {
		conflicts = ofRow[c.head.pin]
	}
	if m.out != parkingIgnoresPin {
		conflicts |= ofPin
	}
	if m.out != parkingIgnoresMark {
		conflicts |= ofMark
	}
	if m.out != parkingIgnoresHead && m.out != parkingIgnoresMark {
		conflicts |= ofHead
	}
	return conflicts
}

// hasLost reports whether a consumer's transaction does not commit.
func (m *pinModel) hasLost(s *modelState, c *modelConsumer, tx modelTx) bool {
	if c.lost || !m.byValue {
		return c.lost
	}
	pinned := s.pin != c.head.pin
	if tx == inTurn {
		return pinned && m.out != turnIgnoresPin
	}
	now, seen := s.modelHead, c.head
	now.pin, seen.pin = 0, 0
	return pinned && m.out != parkingIgnoresPin || s.mark != c.mark && m.out != parkingIgnoresMark ||
		*s.place(c.head.pin) != c.place || now != seen && m.out != parkingIgnoresHead && m.out != parkingIgnoresMark
}

// byOthers is the states after a step of somebody else.
func (m *pinModel) byOthers(s modelState) (next []modelState) {
	ready := func(n *modelState) { n.mark = true; m.wrote(n, ofMark|ofHead); next = append(next, *n) }
	if s.pushes > 0 {
		n := s
		n.pushes--
		if n.halted {
			n.priority = true
		} else {
			n.normal++
		}
		ready(&n)
	}
	if s.pins > 0 {
		n := s
		n.pins--
		if m.out != pinLeavesTheOldRow {
			*n.place(s.pin), n.rows[s.pin] = false, false
			m.wrote(&n, ofRow[s.pin])
			if s.pin == 0 {
				m.wrote(&n, ofWait)
			}
		}
		n.pin = 1 - s.pin
		if m.out != pinWritesNoRow {
			n.rows[n.pin] = true
			m.wrote(&n, ofRow[n.pin])
		}
		m.wrote(&n, ofPin)
		next = append(next, n)
	}
	if s.halts > 0 && s.normal > 0 && !s.halted {
		n := s
		n.halts--
		n.halted = true
		m.wrote(&n, ofHead|ofMessages)
		next = append(next, n)
	}
	if s.halted {
		n := s
		n.halted = false
		ready(&n)
	}
	if s.kills > 0 {
		n := s
		n.kills--
		n.rows[n.pin] = false
		n.modelHead, n.mark, n.wait = modelHead{}, false, false
		m.wrote(&n, ofMessages|ofPin|ofMark|ofWait|ofRow[s.pin])
		next = append(next, n)
	}
	for i := range s.consumers {
		if s.crashes > 0 && s.consumers[i].alive {
			n := s
			n.crashes--
			n.consumers[i] = modelConsumer{}
			next = append(next, n)
		}
	}
	return next
}

// byConsumer is the states after a step of a consumer.
func (m *pinModel) byConsumer(s modelState, i int) (next []modelState) {
	step := func(change func(n *modelState, c *modelConsumer)) {
		n := s
		change(&n, &n.consumers[i])
		n.consumers[i].forget()
		if n != s {
			next = append(next, n)
		}
	}
	c := &s.consumers[i]
	if !c.alive {
		return nil
	}
	if s.mark || s.wait {
		step(func(_ *modelState, c *modelConsumer) { c.look, c.marked = true, true })
	}
	for _, label := range m.labels[i] {
		if s.rows[label] {
			step(func(_ *modelState, c *modelConsumer) { c.look, c.marked, c.called = true, true, true })
		}
	}
	step(func(_ *modelState, c *modelConsumer) { c.rests = false })
	switch c.tx {
	case noTx:
		if c.look {
			step(m.begin)
		}
	case inTurn:
		step(func(n *modelState, c *modelConsumer) { m.endTurn(n, c, i) })
	case inParking:
		step(func(n *modelState, c *modelConsumer) { m.park(n, c, i) })
	case inConfirming:
		step(func(n *modelState, c *modelConsumer) { m.confirm(n, c, i) })
	}
	return next
}

// begin is visit.cut, and the read of the head.
func (m *pinModel) begin(s *modelState, c *modelConsumer) {
	c.look = false
	if c.called {
		c.called, c.row, c.rests = false, true, false
	}
	if !c.rests {
		c.tx, c.head, c.lost = inTurn, s.modelHead, false
	}
}

// endTurn is the commit of a turn, or finishIdle.
func (m *pinModel) endTurn(s *modelState, c *modelConsumer, i int) {
	c.tx = noTx
	switch {
	case !m.lists(i, c.head.pin):
		m.leaveElsewhere(s, c, i)
		return
	case c.head.able() && m.hasLost(s, c, inTurn):
		c.look = true
	case c.head.able():
		s.wrong = s.wrong || !m.lists(i, s.pin)
		if c.head.priority {
			s.priority = false
		}
		if !c.head.halted {
			s.normal -= c.head.normal
		}
		m.wrote(s, ofMessages)
		c.look = true
	case c.head.waits() && c.marked:
		m.beginParking(s, c)
	case !c.head.waits() && c.marked:
		m.beginConfirming(s, c)
	}
	c.elsewhere = false
}

func (m *pinModel) leaveElsewhere(s *modelState, c *modelConsumer, i int) {
	if c.row {
		c.row = false
		if m.out != wrongRowsStay && s.pin == c.head.pin {
			for _, label := range m.labels[i] {
				s.rows[label] = false
				m.wrote(s, ofRow[label])
			}
			s.mark = true
			m.wrote(s, ofMark)
		}
	}
	isFirst := !c.elsewhere
	c.elsewhere, c.rests = true, true
	switch {
	case isFirst || !c.marked:
	case c.head.waits():
		m.beginParking(s, c)
	case m.out != emptyMarksStay:
		m.beginConfirming(s, c)
	}
}

func (m *pinModel) beginParking(s *modelState, c *modelConsumer) {
	c.marked = false
	if s.modelHead == c.head {
		c.tx, c.lost, c.mark, c.place = inParking, false, s.mark, *s.place(c.head.pin)
	}
}

func (m *pinModel) beginConfirming(s *modelState, c *modelConsumer) {
	c.marked = false
	if s.waits() {
		c.look, c.marked = true, true
	} else {
		c.tx = inConfirming
	}
}

// park is the commit of visit.moveMark.
func (m *pinModel) park(s *modelState, c *modelConsumer, i int) {
	c.tx = noTx
	label, isElsewhere := c.head.pin, !m.lists(i, c.head.pin)
	place := s.place(label)
	halts := !c.head.able()
	if m.hasLost(s, c, inParking) {
		if !isElsewhere {
			c.look, c.marked = true, true
		}
		return
	}
	if s.mark {
		s.mark = false
		m.wrote(s, ofMark)
	}
	if label == 0 && c.row {
		c.row, s.rows[0] = false, false
		m.wrote(s, ofRow0)
	}
	switch {
	case halts && c.place:
		*place = false
	case !halts && !c.place && isElsewhere:
		s.wait, s.rows[label] = false, true
		m.wrote(s, ofWait)
	case !halts && !c.place:
		*place = true
	default:
		return
	}
	m.wrote(s, ofRow[label])
	if label == 0 {
		m.wrote(s, ofWait)
	}
}

// confirm is the commit of visit.confirmEmpty.
func (m *pinModel) confirm(s *modelState, c *modelConsumer, i int) {
	c.tx = noTx
	if s.waits() && m.out != confirmIgnoresPushes {
		c.look, c.marked = true, true
		return
	}
	label := c.head.pin
	s.mark, s.wait = false, false
	m.wrote(s, ofMark|ofWait)
	if label != 0 || c.row {
		s.rows[label] = false
		m.wrote(s, ofRow[label])
	}
	if c.row && m.out != confirmKnowsOneRow {
		for _, label := range m.labels[i] {
			s.rows[label] = false
			m.wrote(s, ofRow[label])
		}
	}
	c.row = false
}

// isServed reports whether a consumer lives that lists the server's label.
func (m *pinModel) isServed(s *modelState) bool {
	for i, c := range s.consumers {
		if c.alive && m.lists(i, s.pin) {
			return true
		}
	}
	return false
}

// explore finds all states, and says what is wrong with one of them, or "".
func (m *pinModel) explore(begin modelState) string {
	m.known = map[modelState]int32{}
	at := func(s modelState) int32 {
		n, isKnown := m.known[s]
		if !isKnown {
			n = int32(len(m.states))
			m.known[s] = n
			m.states = append(m.states, s)
			m.before = append(m.before, nil)
		}
		return n
	}
	at(begin)
	for n := int32(0); int(n) < len(m.states); n++ {
		s := m.states[n]
		if s.wrong {
			return fmt.Sprintf("a turn was committed where it may not be: %+v", s)
		}
		for _, next := range m.byOthers(s) {
			at(next)
		}
		for i := range s.consumers {
			for _, next := range m.byConsumer(s, i) {
				to := at(next)
				m.before[to] = append(m.before[to], n)
			}
		}
	}
	isFree := func(s *modelState) bool { return !s.able() && !s.mark && !s.wait && s.rows == [2]bool{} }
	for _, goal := range []struct {
		what       string
		asks, isAt func(s *modelState) bool
	}{
		{"what waits is handled", m.isServed, func(s *modelState) bool { return !s.able() }},
		{"nothing leads to a server that has nothing to do", m.isServed, isFree},
		{"a mark is not left to those who cannot handle it", func(s *modelState) bool {
			return slices.ContainsFunc(s.consumers[:], func(c modelConsumer) bool { return c.alive })
		}, func(s *modelState) bool { return !s.mark }},
	} {
		reaches := make([]bool, len(m.states))
		var todo []int32
		for n := range m.states {
			if goal.isAt(&m.states[n]) {
				reaches[n] = true
				todo = append(todo, int32(n))
			}
		}
		for len(todo) > 0 {
			n := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			for _, before := range m.before[n] {
				if !reaches[before] {
					reaches[before] = true
					todo = append(todo, before)
				}
			}
		}
		for n := range m.states {
			if s := &m.states[n]; !reaches[n] && goal.asks(s) {
				return fmt.Sprintf("it is never so that %s: %+v", goal.what, *s)
			}
		}
	}
	return ""
}

// pinCrews is who lists what, and what may happen from when on.
var pinCrews = []struct {
	name   string
	isLong bool
	labels [3][]uint8
	begin  modelState
}{
	{"one lists both", false, [3][]uint8{{0}, {0, 1}}, modelState{pushes: 1, pins: 2}},
	{"one is alone", false, [3][]uint8{{0}}, modelState{pushes: 2, pins: 1, halts: 1}},
	{"a row is wrong", false, [3][]uint8{{0}, {1}}, modelState{modelStore: modelStore{modelHead: modelHead{normal: 1}, rows: [2]bool{1: true}}}},
	{"a row is wrong for one of both", false, [3][]uint8{{0, 1}}, modelState{modelStore: modelStore{mark: true, rows: [2]bool{1: true}}}},
	{"consumers die", false, [3][]uint8{{0}, {1}}, modelState{pushes: 1, pins: 2, crashes: 1}},
	{"each has its own", true, [3][]uint8{{0}, {1}}, modelState{pushes: 2, pins: 2}},
	{"servers halt", true, [3][]uint8{{0}, {1}}, modelState{pushes: 2, pins: 1, halts: 1}},
	{"servers are killed", true, [3][]uint8{{0}, {1}}, modelState{pushes: 1, pins: 2, kills: 1}},
	{"a label has two", true, [3][]uint8{{0}, {1}, {1}}, modelState{pushes: 1, pins: 1}},
}

// allPinModels looks at all crews, on both kinds of stores.
func allPinModels(out ruleOut, each func(name string, states int, wrong string) (goOn bool)) {
	for _, crew := range pinCrews {
		if crew.isLong && os.Getenv("LONG") == "" {
			continue
		}
		for _, byValue := range []bool{false, true} {
			m := &pinModel{out: out, byValue: byValue, labels: crew.labels}
			begin := crew.begin
			for i := range begin.consumers {
				begin.consumers[i].alive = crew.labels[i] != nil
			}
			wrong := m.explore(begin)
			if !each(fmt.Sprintf("%s, values compared: %v", crew.name, byValue), len(m.states), wrong) {
				return
			}
		}
	}
}

func TestModelOfPinsLosesNothing(t *testing.T) {
	t.Parallel()
	allPinModels(asItIs, func(name string, states int, wrong string) bool {
		t.Logf("%s: %d states", name, states)
		if wrong != "" {
			t.Errorf("%s: %s", name, wrong)
		}
		return true
	})
}

func TestModelOfPinsNeedsEachRule(t *testing.T) {
	t.Parallel()
	for out := turnIgnoresPin; out <= confirmKnowsOneRow; out++ {
		found := ""
		allPinModels(out, func(name string, _ int, wrong string) bool {
			if wrong != "" {
				found = name + ": " + wrong
			}
			return wrong == ""
		})
		if t.Logf("%d: %.200s", out, found); found == "" {
			t.Errorf("without rule %d nothing goes wrong", out)
		}
	}
}
