package consumer

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// What is known of the claimants of a message decides what becomes of it.
func TestEvidenceIsJudged(t *testing.T) {
	head, other := backend.NewVersionstamp(7, 0), backend.NewVersionstamp(6, 0)
	of := func(stamp backend.Versionstamp, l mailbox.Life, last bool) foreignClaim {
		return foreignClaim{Claim: tenant.Claim{Stamp: stamp, Last: last}, life: l}
	}
	d, u, a, last := of(head, mailbox.Dead, false), of(head, mailbox.Unproven, false), of(head, mailbox.Alive, false), of(head, mailbox.Dead, true)
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
		{"the last one may have died", 0, []foreignClaim{d, d, of(head, mailbox.Unproven, true)}, patient, false},
		{"the last one lives", 0, []foreignClaim{d, d, of(head, mailbox.Alive, true)}, alone, true},
		{"the last one is dead", 0, []foreignClaim{d, d, last}, aside, false},
		{"counted attempts", 2, nil, alone, true},
		{"counted attempts, and the last one is dead", 2, []foreignClaim{last}, aside, false},
		{"they died of another message", 0, []foreignClaim{of(other, mailbox.Dead, true), of(other, mailbox.Dead, false), of(other, mailbox.Dead, false)}, alone, false},
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
		{foreignClaim{until: at(2), life: mailbox.Alive}, nil},
		{foreignClaim{until: at(2), life: mailbox.Dead}, []uint64{1, 2}},
		{foreignClaim{Claim: tenant.Claim{Stamp: at(3)}}, []uint64{3}},
		{foreignClaim{Claim: tenant.Claim{Stamp: at(3)}, life: mailbox.Alive}, nil},
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
			tenant.Claim
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
				l := mailbox.Unproven
				switch {
				case proven && a.isDead:
					l = mailbox.Dead
				case proven:
					l = mailbox.Alive
				}
				e.claims = append(e.claims, foreignClaim{Claim: a.Claim, life: l})
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
				me.claims, me.Claim = true, row
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
