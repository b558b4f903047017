package mailbox

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

func beatAt(at time.Time) []byte {
	return tenant.EncodeRecord(tenant.ProcessRecord{Beat: at.UnixMilli(), Consumes: true})
}

// Whenever beats are written, and however long they take to be committed and looks to end: no clock is said to differ by
// more than it does, or in the other direction.
func TestNoClockIsSaidToDifferMoreThanItDoes(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 0))
		ahead := time.Duration(rapid.Int64Range(int64(-time.Minute), int64(time.Minute)).Draw(r, "ahead"))
		some := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) + 1 }
		var c clocks
		start := time.Now()
		type beat struct{ committed, written time.Time }
		var beats []beat
		for at := start; len(beats) < 400; at = at.Add(ConsumerBeat + some(ConsumerBeat/4)) {
			beats = append(beats, beat{at.Add(some(backend.MaxDuration)), at.Add(ahead)})
		}
		next := 0
		for began := start; next < len(beats); {
			seen := began.Add(some(3 * time.Second))
			for next < len(beats) && !beats[next].committed.After(seen) {
				next++
			}
			ended := seen.Add(some(3 * time.Second))
			records := map[string][]byte{}
			if next > 0 {
				records["p"] = beatAt(beats[next-1].written)
			}
			c.look(records, began, ended)
			if said := c.of("p"); said < min(ahead, 0)-time.Millisecond || said > max(ahead, 0) {
				r.Fatalf("a clock that is %v ahead is said to be %v ahead", ahead, said)
			}
			began = ended.Add(some(ConsumerBeat))
		}
		if said := c.of("p"); said == 0 && (ahead > 11*time.Second || ahead < -17*time.Second) {
			r.Fatalf("a clock that is %v ahead is said to agree", ahead)
		}
	})
}

// Several consumers of one process look beside each other. A look that saw less, and ends later, says nothing.
func TestALookBesideAnotherSaysNothing(t *testing.T) {
	var c clocks
	at := time.Now().Add
	for i := range 10 {
		d := time.Duration(i) * 20 * time.Second
		before, after := beatAt(at(d-15*time.Second)), beatAt(at(d+1*time.Second))
		c.look(map[string][]byte{"p": after}, at(d+2*time.Second), at(d+3*time.Second))
		c.look(map[string][]byte{"p": before}, at(d), at(d+4*time.Second))
	}
	if said := c.of("p"); said != 0 {
		t.Errorf("it is said to be %v ahead", said)
	}
}

// A beat is anybody's number, and a record anybody's bytes.
func TestBeatsThatAreNoTimesDoNoHarm(t *testing.T) {
	for _, beat := range []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64 - 1, math.MaxInt64} {
		var c clocks
		now := time.Now()
		for i := range 200 {
			record := tenant.EncodeRecord(tenant.ProcessRecord{Beat: beat, InHand: tenant.InHand{Turns: i}})
			if i%3 == 0 {
				record = []byte{byte(i)}
			}
			c.look(map[string][]byte{"p": record, "gone": nil}, now, now.Add(time.Second))
			now = now.Add(10 * time.Second)
		}
		if said := c.of("p"); beat <= 1 && said > 0 || beat > 1 && said < 10*365*24*time.Hour {
			t.Errorf("a beat of %d is %v ahead", beat, said)
		}
	}
}
