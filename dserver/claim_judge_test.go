package dserver

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// What is known of the claimants of a message decides what becomes of it.
func TestEvidenceIsJudged(t *testing.T) {
	head, other := backend.NewVersionstamp(7, 0), backend.NewVersionstamp(6, 0)
	of := func(stamp backend.Versionstamp, l life, last bool) foreignClaim {
		return foreignClaim{claim: claim{Stamp: stamp, Last: last}, life: l}
	}
	d, u, a, last := of(head, dead, false), of(head, unproven, false), of(head, alive, false), of(head, dead, true)
	for _, c := range []struct {
		name   string
		count  int
		claims []foreignClaim
		care   care
		last   bool
	}{
		{"nobody has claimed it", 0, nil, alone, false},
		{"some may have died", 0, []foreignClaim{u}, alone, false},
		{"as many as may be without evidence", 0, []foreignClaim{u, u}, patient, false},
		{"they are dead", 0, []foreignClaim{d, d}, alone, true},
		{"one of them is not known", 0, []foreignClaim{d, u}, patient, false},
		{"they live", 0, []foreignClaim{a, a, a, a, a}, alone, false},
		{"many died at once", 0, []foreignClaim{d, d, d, d, d}, alone, true},
		{"many, and it is not known", 0, []foreignClaim{d, d, d, d, u}, patient, false},
		{"the last one may have died", 0, []foreignClaim{d, d, of(head, unproven, true)}, patient, false},
		{"the last one lives", 0, []foreignClaim{d, d, of(head, alive, true)}, alone, true},
		{"the last one is dead", 0, []foreignClaim{d, d, last}, aside, false},
		{"counted attempts", 2, nil, alone, true},
		{"counted attempts, and the last one is dead", 2, []foreignClaim{last}, aside, false},
		{"they died of another message", 0, []foreignClaim{of(other, dead, true), of(other, dead, false), of(other, dead, false)}, alone, false},
	} {
		e := evidence{head: head, count: c.count, max: 3, claims: c.claims}
		if care, row := e.judge(); care != c.care || row.Last != c.last || row.Stamp != head && care == alone {
			t.Errorf("%s: %v, %+v", c.name, care, row)
		}
	}
}

// A claim of the queue makes a suspect of what waited, one that names a message of that.
func TestSuspectsAreWhatAClaimantMayHaveDiedOf(t *testing.T) {
	at := func(n uint64) backend.Versionstamp { return backend.NewVersionstamp(n, 0) }
	for _, c := range []struct {
		claim foreignClaim
		want  []uint64
	}{
		{foreignClaim{until: at(2)}, []uint64{1, 2}},
		{foreignClaim{until: at(2), life: alive}, nil},
		{foreignClaim{until: at(2), life: dead}, []uint64{1, 2}},
		{foreignClaim{claim: claim{Stamp: at(3)}}, []uint64{3}},
		{foreignClaim{claim: claim{Stamp: at(3)}, life: alive}, nil},
	} {
		var got []uint64
		for n := range uint64(4) {
			if n > 0 && isSuspect([]foreignClaim{c.claim}, queue.Item{Stamp: at(n)}) {
				got = append(got, n)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v suspects %v, want %v", c.claim, got, c.want)
		}
	}
}

// Processes claim one message, die, live and look, in any order. One is set aside only after as many deaths as it has
// attempts, of which the last began when the others were known; and one that kills whoever takes it is, in the end.
func TestOnlyDeathsInARowSetAside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type actor struct {
			claim
			claims, isDead bool
		}
		limit, kills := rapid.IntRange(1, 6).Draw(t, "attempts"), rapid.Bool().Draw(t, "kills")
		head := backend.NewVersionstamp(7, 0)
		var actors []*actor
		deaths, over := 0, false
		evidenceOf := func(me *actor, proven bool) evidence {
			e := evidence{head: head, max: limit}
			for _, a := range actors {
				if a == me || !a.claims {
					continue
				}
				l := unproven
				switch {
				case proven && a.isDead:
					l = dead
				case proven:
					l = alive
				}
				e.claims = append(e.claims, foreignClaim{claim: a.claim, life: l})
			}
			return e
		}
		begin := func(proven bool) {
			me := &actor{}
			actors = append(actors, me)
			e := evidenceOf(me, proven)
			care, row := e.judge()
			switch care {
			case aside:
				over = true
				if deaths < limit {
					t.Fatalf("set aside after %d deaths of %d", deaths, limit)
				}
			case alone:
				me.claims, me.claim = true, row
				if me.isDead = kills || rapid.IntRange(0, 9).Draw(t, "it dies otherwise") == 0; me.isDead {
					deaths++
				}
			}
		}
		for i := 0; i < 30 && !over; i++ {
			begin(rapid.Bool().Draw(t, fmt.Sprint("all is known ", i)))
		}
		for i := 0; kills && !over; i++ { // enough is known in the end
			begin(true)
			if i > limit+1 {
				t.Fatal("it goes on killing")
			}
		}
		if kills && deaths > 2*limit {
			t.Fatalf("it killed %d, with %d attempts", deaths, limit)
		}
	})
}

// A death is proven by looks that are close to each other, and by nothing else.
func TestDeathIsARecordThatStoodStill(t *testing.T) {
	const gap = consumerBeat * vanishedBeats / 2
	type look struct {
		after  time.Duration
		record string
	}
	for _, c := range []struct {
		name  string
		looks []look
		life  life
	}{
		{"never seen before", []look{{0, "a"}}, unproven},
		{"without a record", []look{{0, ""}}, dead},
		{"its record went", []look{{0, "a"}, {1, ""}}, dead},
		{"it stood still", []look{{0, "a"}, {gap, "a"}, {gap, "a"}}, dead},
		{"for less", []look{{0, "a"}, {gap, "a"}, {gap - 1, "a"}}, unproven},
		{"looks that are far apart", []look{{0, "a"}, {10 * gap, "a"}}, unproven},
		{"far apart in the middle", []look{{0, "a"}, {gap, "a"}, {gap + 1, "a"}, {gap, "a"}}, unproven},
		{"it moved", []look{{0, "a"}, {10 * gap, "b"}}, alive},
		{"it moved and stood still for less", []look{{0, "a"}, {1, "b"}, {gap, "b"}}, alive},
		{"it moved and stood still", []look{{0, "a"}, {1, "b"}, {gap, "b"}, {gap, "b"}}, dead},
		{"it moved, and then nobody looked", []look{{0, "a"}, {1, "b"}, {gap + 1, "b"}}, unproven},
		{"it moved again", []look{{0, "a"}, {gap, "a"}, {gap, "a"}, {gap, "b"}}, alive},
	} {
		var w witness
		now := time.Now()
		for _, l := range c.looks {
			now = now.Add(l.after)
			record := []byte(l.record)
			if l.record == "" {
				record = nil
			}
			if l := w.weigh("p", record, now); l != w.weigh("p", record, now) {
				t.Errorf("%s: weighing is remembered", c.name)
			}
			w.note(map[string][]byte{"p": record}, now)
		}
		if _, l := w.of("p"); l != c.life {
			t.Errorf("%s: %v, want %v", c.name, l, c.life)
		}
	}
}
