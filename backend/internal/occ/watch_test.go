package occ

import (
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
)

func (s *Watches) isKicked() bool {
	select {
	case <-s.Kick():
		return true
	default:
		return false
	}
}

// Who compares is woken for the first watch, unless it stayed awake, and for what it may have missed.
func TestKicks(t *testing.T) {
	s, log := NewWatches(), NewLog(&Errors{})
	set := func(suspects uint64) *Watch {
		var base Base
		base.Draw(log, time.Now())
		w := s.Make(backend.NewKey("a"), nil)
		s.Set([]*Watch{w}, &base, suspects)
		return w
	}
	check := func(when string, want bool) {
		t.Helper()
		if got := s.isKicked(); got != want {
			t.Errorf("%s: kicked is %v", when, got)
		}
	}
	first := set(0)
	check("first", true)
	second := set(0)
	check("second", false)
	s.Awaken()
	if s.Doze() {
		t.Error("it dozes beside watches")
	}
	first.Cancel()
	second.Cancel()
	set(0).Cancel()
	check("first again, awake", false)
	if !s.Doze() {
		t.Error("it does not doze without a watch")
	}
	set(0)
	check("first again, after a doze", true)
	s.Suspect()
	set(0)
	check("another may have committed since the snapshot", true)
	if len(s.Due()) != 1 {
		t.Error("the keys are not due")
	}
	set(1)
	check("nobody can have", false)
}
