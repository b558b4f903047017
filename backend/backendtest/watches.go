package backendtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
)

func watching() []check {
	checks := []check{
		{"AWatchFiresForAChangeBetweenItsReadAndItsEnd", watchFiresForChangeInRead},
		{"AllWatchesOfAKeyFire", allWatchesOfKeyFire},
		{"AWatcherMissesNothing", watcherMissesNothing},
		{"ManyWatchersMissNothing", manyWatchersMissNothing},
		{"ACancelledWatchStaysOpen", cancelledWatchStaysOpen},
		{"CancelMayBeCalledAtAnyTime", cancelAtAnyTime},
		{"AWatchOfAFailedReadIsCancelled", watchOfFailedReadIsCancelled},
		{"AWatchOutlivesTheContextOfItsRead", watchOutlivesContext},
		{"AQuietKeyIsQuiet", quietKeyIsQuiet},
		{"ARolledBackWriteIsNoChange", rolledBackWriteIsNoChange},
		{"CloseFiresAllWatches", closeFiresWatches},
		{"CloseOfAnotherHandleLeavesWatchesAlone", closeOfAnotherLeavesWatches},
	}
	for what, change := range changes() {
		checks = append(checks,
			check{"FiresOn/" + what + "ByItsOwnHandle", func(x *trial) { x.watchFires(x.db, change) }},
			check{"FiresOn/" + what + "ByAnother", func(x *trial) { x.watchFires(x.other, change) }})
	}
	return checks
}

// changes are the ways to change key "watched", whose value is 1 before.
func changes() map[string]func(s *script) {
	return map[string]func(s *script){
		"ASet":             func(s *script) { s.set("watched", "2") },
		"AClear":           func(s *script) { s.tx.Clear(key("watched").Only()) },
		"AClearOfItsRange": func(s *script) { s.clear("a", "z") },
		"AnAdd":            func(s *script) { s.tx.Add(key("watched"), 1) },
		"AStamp":           func(s *script) { s.tx.Stamp(key("watched")) },
		"AnUpdate":         func(s *script) { s.set("watched", s.get("watched")+"+") },
	}
}

func (x *trial) watch(db backend.Database, name string) (w backend.Watch) {
	x.Helper()
	x.read(db, func(r *reader) { w = r.Reader.(backend.ReadTx).Watch(key(name)) })
	return w
}

func (x *trial) watchFires(by backend.Database, change func(*script)) {
	x.transact(x.db, func(s *script) { s.tx.Set(key("watched"), backend.CounterValue(1)) })
	w := x.watch(x.db, "watched")
	absent := x.watch(x.db, "created later")
	x.transact(by, change)
	within(x, w.Done(), "the watch fires")
	x.set(by, "created later", "1")
	within(x, absent.Done(), "the watch of a key that was absent fires")
}

// The watch is for changes after the snapshot, also those that are committed before the watch is set.
func watchFiresForChangeInRead(x *trial) {
	for name, by := range map[string]backend.Database{"own": x.db, "other": x.other} {
		var w backend.Watch
		x.set(x.db, name, "1")
		x.read(x.db, func(r *reader) {
			r.get(name)
			x.set(by, name, "2")
			w = r.Reader.(backend.ReadTx).Watch(key(name))
		})
		within(x, w.Done(), "the watch fires for a change before it was made, by the handle "+name)
	}
}

func allWatchesOfKeyFire(x *trial) {
	var all []backend.Watch
	for range 20 {
		all = append(all, x.watch(x.db, "a"), x.watch(x.other, "a"), x.watch(x.other, "b"))
	}
	x.set(x.db, "a", "1", "b", "1")
	for _, w := range all {
		within(x, w.Done(), "each watch fires")
	}
}

// follow reads key n and waits for its watch, again and again, until it reads last.
func follow(ctx context.Context, db backend.Database, last int64) error {
	for {
		var n int64
		var w backend.Watch
		err := db.Read(ctx, func(tx backend.ReadTx) error {
			r := &reader{Reader: tx}
			n, w = r.counter(key("n")), tx.Watch(key("n"))
			return r.err
		})
		if err != nil {
			return err
		}
		if n == last {
			w.Cancel()
			return nil
		}
		select {
		case <-w.Done():
		case <-time.After(patience):
			return fmt.Errorf("a change was missed: waiting since %d of %d", n, last)
		}
	}
}

func watcherMissesNothing(x *trial) {
	const adds = 150
	followed := make(chan error, 2)
	for _, db := range []backend.Database{x.db, x.other} {
		go func() { followed <- follow(x.Context(), db, adds) }()
	}
	for i := range adds {
		x.transact([]backend.Database{x.db, x.other}[i%2], func(s *script) { s.tx.Add(key("n"), 1) })
	}
	for range 2 {
		if err := <-followed; err != nil {
			x.Error(err)
		}
	}
}

func manyWatchersMissNothing(x *trial) {
	const watchers, addsEach = 8, 15
	followed := make(chan error, watchers)
	for i := range watchers {
		go func() {
			followed <- follow(x.Context(), []backend.Database{x.db, x.other}[i%2], addsEach*eachWorkers)
		}()
	}
	x.each(func(ctx context.Context, db backend.Database, _ int) error {
		for range addsEach {
			if err := transact(ctx, db, func(s *script) { s.tx.Add(key("n"), 1) }); err != nil {
				return err
			}
		}
		return nil
	})
	for range watchers {
		if err := <-followed; err != nil {
			x.Error(err)
		}
	}
}

func fired(w backend.Watch) bool {
	select {
	case <-w.Done():
		return true
	default:
		return false
	}
}

func cancelledWatchStaysOpen(x *trial) {
	cancelled, control := x.watch(x.db, "a"), x.watch(x.db, "a")
	cancelled.Cancel()
	x.set(x.db, "a", "1")
	within(x, control.Done(), "the other watch fires")
	if fired(cancelled) {
		x.Error("a cancelled watch fired")
	}
}

func cancelAtAnyTime(x *trial) {
	var inRead backend.Watch
	x.read(x.db, func(r *reader) {
		inRead = r.Reader.(backend.ReadTx).Watch(key("a"))
		inRead.Cancel()
	})
	once, after, closed := x.watch(x.db, "a"), x.watch(x.db, "a"), x.watch(x.db, "b")
	once.Cancel()
	once.Cancel()
	x.set(x.other, "a", "1")
	within(x, after.Done(), "the watch that was not cancelled fires")
	after.Cancel()
	closeAll(x, x.db)
	within(x, closed.Done(), "closing fires the last watch")
	closed.Cancel()
	if fired(inRead) || fired(once) {
		x.Error("a cancelled watch fired")
	}
}

func watchOfFailedReadIsCancelled(x *trial) {
	var failed backend.Watch
	err := x.db.Read(x.Context(), func(tx backend.ReadTx) error {
		failed = tx.Watch(key("a"))
		return errRefused
	})
	if !errors.Is(err, errRefused) {
		x.Fatal(err)
	}
	control := x.watch(x.db, "a")
	x.set(x.db, "a", "1")
	within(x, control.Done(), "the watch of a Read that succeeded fires")
	if fired(failed) {
		x.Error("the watch of a Read that failed fired")
	}
}

func watchOutlivesContext(x *trial) {
	ctx, cancel := context.WithCancel(x.Context())
	var w backend.Watch
	if err := x.db.Read(ctx, func(tx backend.ReadTx) error { w = tx.Watch(key("a")); return nil }); err != nil {
		x.Fatal(err)
	}
	cancel()
	if fired(w) {
		x.Error("the context's end fired the watch")
	}
	x.set(x.other, "a", "1")
	within(x, w.Done(), "the watch fires after its Read's context has ended")
}

// Watches may fire for nothing, but a store where they always do makes everybody spin.
func quietKeyIsQuiet(x *trial) {
	var quiet []backend.Watch
	for i := range 10 {
		quiet = append(quiet, x.watch(x.db, fmt.Sprint("quiet", i)))
	}
	for i := range 20 {
		control := x.watch(x.db, "loud")
		x.set([]backend.Database{x.db, x.other}[i%2], "loud", fmt.Sprint(i))
		within(x, control.Done(), "the watch of the key that changes fires")
	}
	spurious := 0
	for _, w := range quiet {
		if fired(w) {
			spurious++
		}
	}
	if spurious > len(quiet)/2 {
		x.Errorf("%d of %d watches fired for nothing", spurious, len(quiet))
	}
}

func rolledBackWriteIsNoChange(x *trial) {
	w, control := x.watch(x.db, "a"), x.watch(x.db, "b")
	transact(x.Context(), x.other, func(s *script) {
		s.set("a", "1")
		s.keep(errRefused)
	})
	x.set(x.other, "b", "1")
	within(x, control.Done(), "the watch of the key that changed fires")
	if fired(w) {
		x.Error("a write that was rolled back fired the watch")
	}
}

func closeFiresWatches(x *trial) {
	w, v := x.watch(x.db, "a"), x.watch(x.db, "b")
	closeAll(x, x.db)
	within(x, w.Done(), "closing fires a watch")
	within(x, v.Done(), "closing fires the other")
}

func closeOfAnotherLeavesWatches(x *trial) {
	w := x.watch(x.db, "a")
	closeAll(x, x.other)
	if fired(w) {
		x.Error("closing another handle fired the watch")
	}
	x.set(x.open(), "a", "1")
	within(x, w.Done(), "the watch fires")
}
