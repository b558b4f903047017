package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Stay is a state that tells on which hosts it was changed.
type Stay struct{ Visits []string }

type (
	Sojourn     struct{ Name string }
	Whereabouts struct{ dserver.Returns[[]string] }
	Dwell       struct{ Name string } // takes as long as the test says
	Glance      struct{ Name string } // Info
	Repose      struct {              // is done under the lock
		dserver.Returns[string]
		Name string
	}
	Alert   struct{ In time.Duration }
	Stumble struct{ Name string } // breaks on each host
)

// inn is a host, a place where servers run. What it is given tells when it is in the middle of something.
type inn struct {
	name    string
	entered chan string   // by Dwell, Repose and Stumble
	goOn    chan struct{} // ends Dwell and Repose
	lost    atomic.Int64  // works whose context ended
}

func newHost(name string) *inn {
	return &inn{name: name, entered: make(chan string, 100), goOn: make(chan struct{}, 100)}
}

var stay = dserver.Define[Stay]("stay")

func (h *inn) stays(parts ...dserver.Part[Stay]) *dserver.Definition[Stay] {
	note := func(s *Stay, what string) { s.Visits = append(s.Visits, h.name+":"+what) }
	return stay.With(
		dserver.HandleCast(func(_ *dserver.Context, s *Stay, m Sojourn) error {
			note(s, m.Name)
			return nil
		}),
		dserver.HandleCall(func(_ *dserver.Context, s *Stay, _ Whereabouts) ([]string, error) { return s.Visits, nil }),
		dserver.HandleCast(func(_ *dserver.Context, s *Stay, m Dwell) error {
			h.entered <- m.Name
			<-h.goOn
			note(s, m.Name)
			return nil
		}),
		dserver.HandleInfo(func(_ *dserver.Context, s *Stay, m Glance) error {
			note(s, m.Name)
			return nil
		}),
		dserver.HandleLockedCall(func(ctx *dserver.LockedContext, _ Stay, m Repose) (string, error) {
			h.entered <- ctx.IdempotencyKey()
			select {
			case <-h.goOn:
			case <-ctx.Done():
				h.lost.Add(1)
				return "", ctx.Err()
			}
			return fmt.Sprintf("%s, attempt %d", h.name, ctx.Attempt()), nil
		}, func(_ *dserver.Context, s *Stay, m Repose, found string) (string, error) {
			note(s, m.Name)
			return found, nil
		}),
		dserver.HandleCast(func(ctx *dserver.Context, _ *Stay, m Alert) error {
			ctx.SetTimer("reminder", m.In, Sojourn{"reminded"})
			return nil
		}),
		dserver.HandleCast(func(_ *dserver.Context, _ *Stay, m Stumble) error {
			h.entered <- m.Name
			<-h.goOn
			panic("it tripped on " + h.name)
		}),
	).With(parts...)
}

// visits is what a server tells, without a turn.
func visits(t testing.TB, s *dserver.DServer[Stay]) []string {
	t.Helper()
	state, err := s.State(within(t))
	if errors.Is(err, dserver.ErrNotFound) {
		return nil
	}
	must(t, err)
	return state.Visits
}

func awaitVisits(t testing.TB, s *dserver.DServer[Stay], want ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%v was visited as %q, not %q", s.Ref(), want, visits(t, s)), func() bool { return slices.Equal(visits(t, s), want) })
}

func TestServerRunsWhereItIsPinned(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx := within(t)
		run(t, dserver.Consumer{}, open(), newHost("any").stays())
		run(t, dserver.Consumer{Labels: []string{"eu", "us"}}, open(), newHost("both").stays())
		run(t, dserver.Consumer{Labels: []string{"de"}}, open(), newHost("de").stays())
		s, other := stay.At(open(), "a"), stay.At(open(), "b")
		must(t, s.Cast(ctx, Sojourn{"1"}))
		awaitVisits(t, s, "any:1")
		for i, to := range []struct{ label, host string }{{"eu", "both"}, {"us", "both"}, {"de", "de"}, {"", "any"}, {"de", "de"}} {
			must(t, s.Pin(ctx, to.label))
			if got := statusOf(t, s).Label; got != to.label {
				t.Errorf("pinned to %q, and Status.Label is %q", to.label, got)
			}
			must(t, s.Cast(ctx, Sojourn{fmt.Sprint(i)}))
			want := fmt.Sprint(to.host, ":", i)
			eventually(t, want, func() bool { v := visits(t, s); return v[len(v)-1] == want })
		}
		if got, err := dserver.Call(ctx, s, Whereabouts{}); err != nil || len(got) != 6 {
			t.Errorf("the pinned server answers %q, %v", got, err)
		}
		must(t, other.Cast(ctx, Sojourn{"1"}))
		awaitVisits(t, other, "any:1")
	})
}

// The messages of a process whose consumer does not list the label go where it is listed.
func TestMessagesOfAProcessThatDoesNotRunTheServerFindIt(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx, here := within(t), open()
		run(t, dserver.Consumer{}, here, newHost("here").stays())
		run(t, dserver.Consumer{Labels: []string{"there"}}, open(), newHost("there").stays())
		s := newHost("here").stays().At(here, "a")
		must(t, s.Pin(ctx, "there"))
		var want []string
		for i := range 10 {
			must(t, s.Cast(ctx, Sojourn{fmt.Sprint(i)}))
			want = append(want, fmt.Sprint("there:", i))
			if got, err := dserver.Call(ctx, s, Whereabouts{}); err != nil || !slices.Equal(got, want) {
				t.Fatalf("it tells %q, %v; want %q", got, err, want)
			}
		}
	})
}

// A turn that runs when its server is pinned elsewhere commits nothing, whatever its handler has done.
func TestTurnDoesNotCommitAfterAPin(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx, old := within(t), newHost("old")
		run(t, dserver.Consumer{}, open(), old.stays())
		s := stay.At(open(), "a")
		must(t, s.Cast(ctx, Sojourn{"1"}))
		awaitVisits(t, s, "old:1")
		must(t, s.CastAll(ctx, []any{Dwell{"2"}, Sojourn{"3"}}))
		<-old.entered
		must(t, s.Pin(ctx, "new"))
		old.goOn <- struct{}{}
		<-time.After(50 * time.Millisecond) // it would commit in this time
		awaitVisits(t, s, "old:1")
		fresh := newHost("new")
		fresh.goOn <- struct{}{}
		run(t, dserver.Consumer{Labels: []string{"new"}}, open(), fresh.stays())
		awaitVisits(t, s, "old:1", "new:2", "new:3")
	})
}

// A host that a server has left counts no attempt of a message that broke there.
func TestAttemptIsNotCountedAfterAPin(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx, old := within(t), newHost("old")
		run(t, dserver.Consumer{Logger: zerolog.Nop()}, open(), old.stays())
		s := stay.At(open(), "a")
		must(t, s.Cast(ctx, Stumble{"1"}))
		<-old.entered
		must(t, s.Pin(ctx, "nowhere"))
		old.goOn <- struct{}{}
		<-time.After(50 * time.Millisecond)
		if got := statusOf(t, s); got.Attempts != 0 || got.Queued != 1 {
			t.Errorf("after a pin: %+v", got)
		}
	})
}

// What joins turns without the queue is recalled, not read: a pin is seen there as well.
func TestRecalledServerIsSeenToBePinned(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx, here := within(t), open()
		def := newHost("old").stays()
		run(t, dserver.Consumer{Labels: []string{"", "old"}}, here, def)
		run(t, dserver.Consumer{Labels: []string{"new"}}, open(), newHost("new").stays())
		s := def.At(here, "a")
		var want []string
		for _, label := range []string{"old", "new", "", "new", "old"} {
			must(t, stay.At(open(), "a").Pin(ctx, label))
			host := "old"
			if label == "new" {
				host = "new"
			}
			for i := range 5 {
				must(t, s.Cast(ctx, Sojourn{fmt.Sprint(i)}))
				want = append(want, fmt.Sprint(host, ":", i))
				if got, err := dserver.Call(ctx, s, Whereabouts{}); err != nil || !slices.Equal(got, want) {
					t.Fatalf("it tells %q, %v; want %q", got, err, want)
				}
			}
		}
	})
}

func TestLockedWorkBeginsAgainWhereTheServerIsPinned(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx, old, fresh := within(t), newHost("old"), newHost("new")
		run(t, dserver.Consumer{Logger: zerolog.Nop()}, open(), old.stays())
		run(t, dserver.Consumer{Labels: []string{"new"}}, open(), fresh.stays())
		s := stay.At(open(), "a")
		answer := make(chan string, 1)
		go func() {
			got, err := dserver.Call(ctx, s, Repose{Name: "1"})
			answer <- fmt.Sprint(got, err)
		}()
		key := <-old.entered
		must(t, s.Cast(ctx, Sojourn{"2"}))
		must(t, s.Pin(ctx, "new"))
		if again := <-fresh.entered; again != key {
			t.Errorf("the work runs again under the key %q, which was %q", again, key)
		}
		eventually(t, "the old work's context ended", func() bool { return old.lost.Load() == 1 })
		fresh.goOn <- struct{}{}
		if got := <-answer; got != "new, attempt 1<nil>" {
			t.Errorf("the caller was answered %q", got)
		}
		awaitVisits(t, s, "new:1", "new:2")
	})
}

// Work that has found something as its server is pinned elsewhere has lost its lock.
func TestLockedWorkIsNotAppliedAfterAPin(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx, old, fresh := within(t), newHost("old"), newHost("new")
		run(t, dserver.Consumer{Logger: zerolog.Nop()}, open(), old.stays())
		s := stay.At(open(), "a")
		answer := make(chan error, 1)
		go func() {
			_, err := dserver.Call(ctx, s, Repose{Name: "1"})
			answer <- err
		}()
		<-old.entered
		must(t, s.Pin(ctx, "new"))
		old.goOn <- struct{}{}
		<-time.After(50 * time.Millisecond)
		if got := visits(t, s); len(got) != 0 {
			t.Errorf("the old work was applied: %q", got)
		}
		fresh.goOn <- struct{}{}
		run(t, dserver.Consumer{Labels: []string{"new"}}, open(), fresh.stays())
		must(t, <-answer)
		awaitVisits(t, s, "new:1")
	})
}

func TestTimerFiresWhereTheServerIsPinned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newStore(t, stay).Open()
		run(t, dserver.Consumer{}, db, newHost("old").stays())
		run(t, dserver.Consumer{Labels: []string{"new"}}, db, newHost("new").stays())
		s := stay.At(db, "a")
		must(t, s.Cast(t.Context(), Alert{time.Hour}))
		must(t, s.Cast(t.Context(), Sojourn{"later"}, dserver.After(2*time.Hour)))
		<-time.After(time.Minute)
		must(t, s.Pin(t.Context(), "new"))
		<-time.After(3 * time.Hour)
		awaitVisits(t, s, "new:reminded", "new:later")
	})
}

// A server whose label nobody lists is said to be so, is not read again and again, and is found when a consumer comes.
func TestServerWhoseLabelNobodyListsIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := newStore(t, stay), new(logLines)
		db := store.Open()
		s := stay.At(db, "a")
		must(t, s.Pin(t.Context(), "gpu"))
		stop := run(t, dserver.Consumer{Logger: zerolog.New(log)}, db, newHost("any").stays())
		for i := range 3 {
			must(t, s.Cast(t.Context(), Sojourn{fmt.Sprint(i)}))
		}
		must(t, stay.At(db, "b").Pin(t.Context(), "gpu"))
		must(t, stay.At(db, "b").Cast(t.Context(), Sojourn{"0"}))
		<-time.After(500 * time.Millisecond)
		for key := range keysBelow(t, db, "r") {
			if elements, err := key.Elements(); err != nil || elements[4] != "m" {
				t.Errorf("a consumer claims what it does not run: %v", key)
			}
		}
		<-time.After(time.Minute)
		if got := statusOf(t, s); !got.Unlisted || got.Label != "gpu" || got.Unhandled != "" || got.Queued != 3 {
			t.Errorf("nobody lists its label: %+v", got)
		}
		if n := log.count("no living consumer lists the label"); n != 1 {
			t.Errorf("that was logged %d times", n)
		}
		if n := len(slices.Collect(keysBelow(t, db, "r"))); n != 0 {
			t.Errorf("%d ready marks are left to all consumers", n)
		}
		if n := len(slices.Collect(keysBelow(t, db, "l"))); n != 3 { // the bell, and two rows
			t.Errorf("%d keys are below labels", n)
		}
		stop()
		if got := statusOf(t, s); got.Unlisted {
			t.Errorf("no consumer runs, and that is said to be the label's: %+v", got)
		}
		run(t, dserver.Consumer{Labels: []string{"gpu"}}, db, newHost("gpu").stays())
		<-time.After(time.Second)
		awaitVisits(t, s, "gpu:0", "gpu:1", "gpu:2")
		if got := statusOf(t, s); got.Unlisted {
			t.Errorf("it is listed: %+v", got)
		}
		<-time.After(time.Minute)
		if n := len(slices.Collect(keysBelow(t, db, "l"))); n != 1 {
			t.Errorf("%d keys are below labels when all is done", n)
		}
	})
}

// A call that waits for a label is told so when its time is over.
func TestCallThatNobodyListsSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newStore(t, stay).Open()
		run(t, dserver.Consumer{Logger: zerolog.Nop()}, db, newHost("any").stays())
		s := stay.At(db, "a")
		must(t, s.Pin(t.Context(), "gpu"))
		<-time.After(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := dserver.Call(ctx, newHost("any").stays().At(db, "a"), Whereabouts{})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `no consumer lists its label "gpu"`) {
			t.Errorf("the call ends with %v", err)
		}
	})
}

func TestInfoIsAskedWhereTheServerRuns(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx, here, there := within(t), open(), open()
		def := newHost("here").stays()
		run(t, dserver.Consumer{}, here, def)
		run(t, dserver.Consumer{Labels: []string{"there"}}, there, newHost("there").stays())
		must(t, def.At(here, "a").Info(ctx, Glance{"1"}))
		must(t, def.At(here, "a").Pin(ctx, "there"))
		if err := def.At(here, "a").Info(ctx, Glance{"2"}); !errors.Is(err, dserver.ErrElsewhere) {
			t.Errorf("asked where it does not run: %v", err)
		}
		if err := def.At(open(), "a").Info(ctx, Glance{"3"}); !errors.Is(err, dserver.ErrElsewhere) {
			t.Errorf("asked where nothing runs: %v", err)
		}
		must(t, def.At(here, "a").Cast(ctx, Sojourn{"4"}))
		awaitVisits(t, stay.At(here, "a"), "here:1", "there:4")
		must(t, newHost("there").stays().At(there, "a").Info(ctx, Glance{"5"}))
		if err := def.At(there, "b").Info(ctx, Glance{"6"}); !errors.Is(err, dserver.ErrElsewhere) {
			t.Errorf("one that is not pinned, asked where only a label is listed: %v", err)
		}
		awaitVisits(t, stay.At(here, "a"), "here:1", "there:4", "there:5")
	})
}

func TestServersBeginUnderTheLabelOfTheirType(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx, db := within(t), open()
		old := stay.At(db, "old")
		stop := run(t, dserver.Consumer{}, open(), newHost("any").stays())
		must(t, old.Cast(ctx, Sojourn{"1"}))
		awaitVisits(t, old, "any:1")
		stop()
		begins := dserver.Settings[Stay]{Label: "new"}
		run(t, dserver.Consumer{}, open(), newHost("any").stays(begins))
		run(t, dserver.Consumer{Labels: []string{"new"}}, open(), newHost("new").stays(begins))
		fresh, pinned := stay.At(db, "fresh"), stay.At(db, "pinned")
		must(t, pinned.Pin(ctx, ""))
		for _, s := range []*dserver.DServer[Stay]{old, fresh, pinned} {
			must(t, s.Cast(ctx, Sojourn{"2"}))
		}
		awaitVisits(t, old, "any:1", "any:2")
		awaitVisits(t, fresh, "new:2")
		awaitVisits(t, pinned, "any:2")
		if got := statusOf(t, fresh).Label; got != "new" {
			t.Errorf("it began under %q", got)
		}
		must(t, fresh.Pin(ctx, ""))
		must(t, fresh.Cast(ctx, Sojourn{"3"}))
		awaitVisits(t, fresh, "new:2", "any:3")
		must(t, fresh.Kill(ctx))
		must(t, fresh.Cast(ctx, Sojourn{"4"}))
		awaitVisits(t, fresh, "new:4")
	})
}

// A server that begins elsewhere, where nobody is, waits there: also while it has no state that could say so.
func TestNewServerWaitsForTheLabelOfItsType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newStore(t, stay).Open()
		begins := dserver.Settings[Stay]{Label: "new"}
		run(t, dserver.Consumer{Logger: zerolog.Nop()}, db, newHost("any").stays(begins))
		s := stay.At(db, "a")
		must(t, s.Cast(t.Context(), Sojourn{"1"}))
		<-time.After(time.Minute)
		if got := statusOf(t, s); !got.Unlisted || got.Label != "new" {
			t.Errorf("it waits as %+v", got)
		}
		must(t, s.Pin(t.Context(), ""))
		<-time.After(time.Second)
		if got := visits(t, s); !slices.Equal(got, []string{"any:1"}) {
			t.Errorf("a second after it was pinned here it has %q", got)
		}
		<-time.After(time.Minute)
		for key := range keysBelow(t, db, "l") {
			if elements, err := key.Elements(); err != nil || len(elements) > 2 {
				t.Errorf("%v leads to a server that has nothing to do", key)
			}
		}
	})
}

// A row under the wrong label is mended by who lists that: with it alone the server would not be found.
func TestRowUnderAnotherLabelIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newStore(t, stay).Open()
		s, row := stay.At(db, "a"), backend.NewKey("l", "gpu", "stay", "a")
		must(t, s.Cast(t.Context(), Sojourn{"1"}))
		must(t, db.Transact(t.Context(), func(tx backend.Tx) error {
			tx.Clear(backend.NewKey("r").Tree())
			tx.Set(row, nil)
			return nil
		}))
		run(t, dserver.Consumer{}, db, newHost("any").stays())
		<-time.After(time.Minute)
		if got := visits(t, s); len(got) != 0 {
			t.Fatalf("it was found without the row: %q", got)
		}
		run(t, dserver.Consumer{Labels: []string{"gpu"}}, db, newHost("gpu").stays())
		<-time.After(10 * time.Second)
		awaitVisits(t, s, "any:1")
		if slices.ContainsFunc(slices.Collect(keysBelow(t, db, "l")), func(key backend.Key) bool { return key.Compare(row) == 0 }) {
			t.Error("the row is still there")
		}
	})
}

func TestKilledServerBeginsAnewElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newStore(t, stay).Open()
		run(t, dserver.Consumer{}, db, newHost("any").stays())
		s := stay.At(db, "a")
		must(t, s.Pin(t.Context(), "gpu"))
		for i := range 600 { // more than a kill buries by itself
			must(t, s.Cast(t.Context(), Sojourn{fmt.Sprint(i)}))
		}
		<-time.After(time.Minute) // it is parked
		must(t, s.Kill(t.Context()))
		must(t, s.Cast(t.Context(), Sojourn{"new"}))
		<-time.After(10 * time.Second)
		awaitVisits(t, s, "any:new")
		if n := len(slices.Collect(keysBelow(t, db, "l"))); n != 2 { // the bells of both labels
			t.Errorf("%d keys are below labels", n)
		}
	})
}

// Who lists where a killed server begins anew has left it alone as another's, and looks all the same.
func TestKilledServerIsFoundAtOnceWhereItBegins(t *testing.T) {
	for _, begins := range []string{"", "new"} {
		for _, wait := range []time.Duration{5 * time.Millisecond, 30 * time.Millisecond, 1700 * time.Millisecond, 8 * time.Second} {
			t.Run(fmt.Sprintf("%q after %v", begins, wait), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store, begin := newStore(t, stay), dserver.Settings[Stay]{Label: begins}
					for _, label := range []string{"", "new"} { // and nobody "gpu"
						run(t, dserver.Consumer{Labels: []string{label}, Logger: zerolog.Nop()}, store.Open(), newHost("at "+label).stays(begin))
					}
					db := store.Open()
					s := newHost("nobody").stays(begin).At(db, "a")
					for range 2 {
						must(t, s.Cast(t.Context(), Sojourn{"1"}))
						awaitVisits(t, s, "at "+begins+":1")
						must(t, s.Pin(t.Context(), "gpu"))
						must(t, s.Cast(t.Context(), Sojourn{"2"}))
						<-time.After(wait)
						must(t, s.Kill(t.Context()))
						began := time.Now()
						if got, err := dserver.Call(t.Context(), s, Whereabouts{}); err != nil || len(got) > 0 {
							t.Errorf("it has %q, %v", got, err)
						}
						if took := time.Since(began); took > 100*time.Millisecond {
							t.Errorf("it began after %v", took)
						}
					}
					<-time.After(time.Minute)
					for key := range keysBelow(t, db, "l") {
						if elements, err := key.Elements(); err != nil || len(elements) > 2 {
							t.Errorf("%v leads to a server that has nothing to do", key)
						}
					}
				})
			})
		}
	}
}

// A killed server leaves no row where nobody would take it away.
func TestKilledServerLeavesNoRowWhereNobodyLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newStore(t, stay).Open()
		run(t, dserver.Consumer{Labels: []string{"gpu"}}, db, newHost("gpu").stays())
		s := stay.At(db, "a")
		must(t, s.Pin(t.Context(), "gpu"))
		must(t, s.Cast(t.Context(), Sojourn{"1"}))
		awaitVisits(t, s, "gpu:1")
		must(t, s.Kill(t.Context()))
		<-time.After(time.Minute)
		for key := range keysBelow(t, db, "l") {
			if elements, err := key.Elements(); err != nil || len(elements) > 2 {
				t.Errorf("%v leads to a server that is no more", key)
			}
		}
	})
}

// The index of a label has no rows of servers that wait, are locked or halted, beyond what leads to them.
func TestParkedServerMovesWithItsPin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, stay)
		db := store.Open() // of another process: its messages do not join turns
		old, fresh := newHost("old"), newHost("new")
		close(old.goOn)
		close(fresh.goOn)
		halts := dserver.Settings[Stay]{MaxAttempts: 2, Halt: true}
		run(t, dserver.Consumer{Logger: zerolog.Nop()}, store.Open(), old.stays(halts))
		run(t, dserver.Consumer{Labels: []string{"new"}, Logger: zerolog.Nop()}, store.Open(), fresh.stays(halts))
		s := stay.At(db, "a")
		must(t, s.Cast(t.Context(), Stumble{"1"}))
		<-time.After(time.Minute)
		for _, label := range []string{"new", "", "new"} {
			if got := statusOf(t, s); !got.Halted || got.Attempts != 2 {
				t.Fatalf("it has not halted: %+v", got)
			}
			must(t, s.Pin(t.Context(), label))
			<-time.After(time.Minute)
			var rows []backend.Key
			for _, section := range []string{"l", "r", "w"} {
				rows = slices.AppendSeq(rows, keysBelow(t, db, section))
			}
			for _, row := range rows {
				if elements, err := row.Elements(); err != nil || len(elements) > 2 {
					t.Errorf("pinned to %q, %v leads to a server that has halted", label, row)
				}
			}
		}
		must(t, s.Resume(t.Context()))
		<-time.After(time.Minute)
		if got := statusOf(t, s); !got.Halted || len(old.entered) != 2 || len(fresh.entered) != 2 {
			t.Errorf("after Resume: %+v, tried %d times on the old host and %d on the new one", got, len(old.entered), len(fresh.entered))
		}
	})
}

// A consumer that knew the server, and waited with a back-off of its own, looks at once when it is pinned back.
func TestServerIsLookedAtWhenItIsPinnedBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, h := newStore(t, stay), newHost("any")
		close(h.goOn)
		run(t, dserver.Consumer{Logger: zerolog.Nop()}, store.Open(), h.stays(dserver.Settings[Stay]{MaxAttempts: 100}))
		s := stay.At(store.Open(), "a")
		must(t, s.Cast(t.Context(), Stumble{"1"}))
		for range 8 { // now it is not tried for 22 seconds
			<-h.entered
		}
		<-time.After(time.Second)
		must(t, s.Pin(t.Context(), "gpu"))
		must(t, s.Cast(t.Context(), Sojourn{"2"}, dserver.Priority()))
		<-time.After(8 * time.Second) // it is parked
		must(t, s.Pin(t.Context(), ""))
		<-time.After(time.Second)
		if got := visits(t, s); !slices.Equal(got, []string{"any:2"}) || len(h.entered) > 0 {
			t.Errorf("a second after it was pinned back it has %q", got)
		}
	})
}

// The mark of a server that has nothing to do is not read for ever by those who do not run it.
func TestEmptyMarkOfAPinnedServerIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, stay)
		db := store.Open()
		run(t, dserver.Consumer{Logger: zerolog.Nop()}, store.Open(), newHost("any").stays())
		s := stay.At(db, "a")
		must(t, s.Cast(t.Context(), Sojourn{"1"}))
		synctest.Wait() // it is handled, and its mark is there for a moment still
		must(t, s.Pin(t.Context(), "gpu"))
		awaitVisits(t, s, "any:1")
		<-time.After(time.Minute)
		if n := len(slices.Collect(keysBelow(t, db, "r"))); n != 0 {
			t.Errorf("%d ready marks are left", n)
		}
		must(t, s.Cast(t.Context(), Sojourn{"2"}))
		run(t, dserver.Consumer{Labels: []string{"gpu"}}, store.Open(), newHost("gpu").stays())
		<-time.After(time.Second)
		awaitVisits(t, s, "any:1", "gpu:2")
	})
}

// Servers that are pinned on before anybody has looked leave no row behind, and a row under a wrong label does not stay where
// one consumer lists that and the right one.
func TestNoRowIsLeftUnderAnotherLabel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newStore(t, stay).Open()
		left := func() (n int) {
			for key := range keysBelow(t, db, "l") {
				if elements, err := key.Elements(); err != nil || len(elements) > 2 {
					n++
				}
			}
			return n
		}
		s := stay.At(db, "a")
		for _, label := range []string{"gpu", "", "gpu", "cpu", "", "gpu"} {
			must(t, s.Pin(t.Context(), label))
			if n := left(); n != 1 {
				t.Errorf("pinned to %q, it has %d rows", label, n)
			}
		}
		must(t, db.Transact(t.Context(), func(tx backend.Tx) error {
			tx.Set(backend.NewKey("l", "", "stay", "a"), nil)
			return nil
		}))
		run(t, dserver.Consumer{Labels: []string{"", "gpu"}}, db, newHost("both").stays())
		<-time.After(time.Minute)
		if n := left(); n != 0 {
			t.Errorf("%d rows lead to a server that has nothing to do", n)
		}
	})
}

// meddledDB is a store in which something happens just before the first commit that removes the mark of a server that waits.
type meddledDB struct {
	backend.Database
	meddle func()
}

type meddledTx struct {
	backend.Tx
	unmarks bool
}

func (tx *meddledTx) Clear(r backend.Range) {
	elements, err := r.Begin.Elements()
	tx.unmarks = tx.unmarks || err == nil && len(elements) == 5 && elements[0] == "r" && elements[4] == "m"
	tx.Tx.Clear(r)
}

func (d *meddledDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	return d.Database.Transact(ctx, func(tx backend.Tx) error {
		noted := &meddledTx{Tx: tx}
		err := fn(backend.Wrapped(noted, tx))
		if noted.unmarks {
			d.meddle()
		}
		return err
	})
}

// A message that can be handled comes to a server that has halted, as its mark is removed: on a store that compares values the
// mark that it sets is no change.
func TestMessageThatComesAsAServerIsParkedIsFound(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		h, s := newHost("any"), stay.At(open(), "a")
		close(h.goOn)
		db := &meddledDB{open(), sync.OnceFunc(func() {
			if err := s.Cast(context.Background(), Sojourn{"2"}, dserver.Priority()); err != nil {
				t.Error(err)
			}
		})}
		must(t, s.Cast(t.Context(), Stumble{"1"}))
		runHasty(t, db, h.stays(dserver.Settings[Stay]{MaxAttempts: 1, Halt: true}))
		awaitVisits(t, s, "any:2")
	})
}

func TestLabelsThatAreNone(t *testing.T) {
	db := newStore(t).Open()
	for _, label := range []string{strings.Repeat("x", 129), "\xff"} {
		if err := stay.At(db, "a").Pin(t.Context(), label); err == nil || !strings.Contains(err.Error(), "128 bytes") {
			t.Errorf("Pin to %q: %v", label, err)
		}
		if err := (dserver.Consumer{Labels: []string{label}}).Run(t.Context(), db, newHost("").stays()); err == nil || !strings.Contains(err.Error(), "128 bytes") {
			t.Errorf("Run with %q: %v", label, err)
		}
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.Contains(p, "128 bytes") || !strings.Contains(p, `"stay"`) {
					t.Errorf("the panic of a definition with %q: %s", label, p)
				}
			}()
			stay.With(dserver.Settings[Stay]{Label: label})
		}()
	}
	must(t, stay.At(db, "a").Pin(t.Context(), strings.Repeat("x", 128)))
}
