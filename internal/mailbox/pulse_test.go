package mailbox

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestRankSharesServersEvenly(t *testing.T) {
	const servers = 1000
	peers := []string{"P1", "P2", "P3", "P4"}
	first := func(peers []string, id string) string {
		peers = slices.Clone(peers)
		Rank(peers, id)
		return peers[0]
	}
	shares, moved := map[string]int{}, 0
	for i := range servers {
		id := fmt.Sprint("server-", i)
		owner := first(peers, id)
		shares[owner]++
		if first(append(slices.Clone(peers), "P5"), id) != owner {
			moved++
		}
		if again := first([]string{"P4", "P2", "P1", "P3"}, id); again != owner {
			t.Fatalf("%s is %s's, and %s's where the peers were read in another order", id, owner, again)
		}
	}
	for _, peer := range peers {
		if n, even := shares[peer], servers/len(peers); n < even*3/4 || n > even*5/4 {
			t.Errorf("%s has %d of %d servers", peer, n, servers)
		}
	}
	if moved == 0 || moved > servers*3/10 {
		t.Errorf("%d of %d servers move when a fifth peer comes", moved, servers)
	}
}

// A pulse that changes more slowly than it should is waited for twice as long as that, as soon as it was seen once, until it is
// quick again. One that stood still is not slow, however long it did.
func TestPulseThatChangesSlowlyIsAwaitedLonger(t *testing.T) {
	const peers = 2
	now := time.Now()
	step, limit := PulseInterval(peers), SilentAfter(peers)
	mark, beats := now, byte(0)
	var p *Pulse
	change := func() {
		beats++
		p = p.Next([]byte{beats}, true, "t", now)
	}
	awaited := func() time.Duration { // since the last change
		since := now
		for p.IsAwaited(mark, now, peers) {
			now = now.Add(step / 10)
		}
		return now.Sub(since)
	}
	change()
	if d := awaited(); d != limit {
		t.Fatalf("it is waited for for %v at first, not %v", d, limit)
	}
	now = now.Add(time.Hour) // it stood still
	p.IsAwaited(mark, now, peers)
	change()
	if d := awaited(); d != 2*limit {
		t.Errorf("one that came late is waited for for %v, not %v", d, 2*limit)
	}
	for range 10 {
		now = now.Add(time.Second)
		p.IsAwaited(mark, now, peers)
		change()
	}
	if d := awaited(); d > LookInterval {
		t.Errorf("it is waited for for %v, longer than for anything", d)
	}
	for range 60 {
		change()
		now = now.Add(step)
		if !p.IsAwaited(mark, now, peers) {
			t.Fatal("one that changes is not waited for")
		}
	}
	change()
	if d := awaited(); d != limit {
		t.Errorf("one that is quick again is waited for for %v, not %v", d, limit)
	}
}

func TestPulseIsAwaitedWhileItChanges(t *testing.T) {
	const peers = 2
	now := time.Now()
	step, limit := PulseInterval(peers), SilentAfter(peers)
	var p *Pulse
	mark := now
	for i := range 20 { // it changes
		p = p.Next([]byte{byte(i)}, true, "t", now)
		if !p.IsAwaited(mark, now, peers) {
			t.Fatalf("after %d beats it is not waited for", i)
		}
		now = now.Add(step)
	}
	for still := step; still < limit; still += step {
		p = p.Next([]byte{19}, true, "t", now)
		if !p.IsAwaited(mark, now, peers) {
			t.Fatalf("it is not waited for after %v without a change", still)
		}
		now = now.Add(step)
	}
	p = p.Next([]byte{19}, true, "t", now)
	if p.IsAwaited(mark, now, peers) {
		t.Error("it is waited for although it stands still")
	}
	if p = p.Next([]byte{19}, true, "t", now); p.IsAwaited(now, now, peers) {
		t.Error("one that was waited for in vain is waited for again, with another server")
	}
	if p = p.Next([]byte{20}, true, "t", now); !p.IsAwaited(now, now, peers) {
		t.Error("it is back, and not waited for")
	}
	busy := append(make([]byte, pulseBytes), 1)
	if p = p.Next(busy, true, "t", now); p.IsAwaited(now, now, peers) {
		t.Error("it has more than it can run, and is waited for")
	}
	ended := append(append(make([]byte, pulseBytes), 0), typeMark("t")...)
	if p = p.Next(ended, true, "t", now); p.IsAwaited(now, now, peers) {
		t.Error("it has ended the type, and is waited for")
	}
	if p = p.Next(ended, true, "u", now); p.IsAwaited(now, now, peers) {
		t.Error("what stands still is seen anew")
	}
	if p = (*Pulse)(nil).Next(ended, true, "u", now); !p.IsAwaited(now, now, peers) {
		t.Error("it has ended another type, and is not waited for")
	}
	if p = p.Next([]byte{21}, true, "t", now).Next(nil, true, "t", now); p.IsAwaited(now, now, peers) {
		t.Error("it has stopped, and is waited for")
	}
	if p = (*Pulse)(nil).Next(nil, true, "t", now); !p.IsAwaited(now, now, peers) {
		t.Error("one that had nothing to do is not waited for")
	}
	if p = (*Pulse)(nil).Next(nil, false, "t", now); p.IsAwaited(now, now, peers) {
		t.Error("a process that is gone is waited for")
	}
}
