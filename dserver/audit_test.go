package dserver_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// acts is what operators did, the latest first.
func acts(t testing.TB, db backend.Database) (all []dserver.Act) {
	t.Helper()
	for a, err := range dserver.Audit(within(t), db) {
		must(t, err)
		all = append(all, a)
	}
	return all
}

// verbsOf is the verbs of acts, the first first.
func verbsOf(all []dserver.Act) string {
	var verbs []string
	for _, a := range all {
		verbs = append([]string{a.Verb}, verbs...)
	}
	return strings.Join(verbs, " ")
}

func TestWhatOperatorsDoIsWrittenDown(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db := open()
		s, dead := setAside(t, db, Refusal{"no"})
		plain, ctx := within(t), dserver.WithActor(within(t), "ada@ops")
		must(t, s.CastAll(plain, []any{Note{1}, Note{2}, Note{3}}))
		must(t, s.Cast(plain, Note{9}, dserver.After(time.Hour)))
		queued := waiting(t, s)
		must(t, s.Mend(ctx, queued[0], Note{7}))
		must(t, s.Withdraw(ctx, queued[1].Stamp))
		must(t, s.Withdraw(plain, queued[2].Stamp)) // nobody says who
		for d, err := range s.Delayed(plain) {
			must(t, err)
			must(t, s.WithdrawDelayed(ctx, d.ID))
		}
		edited := dead
		edited.Message = dserver.Message{Name: "Note", Body: []byte{0xa1, 0x61, 'N', 0x09}}
		must(t, s.Retry(ctx, edited))
		if s.Discard(ctx, dead) == nil {
			t.Error("discarded what was retried")
		}
		must(t, s.Pause(ctx))
		must(t, s.Resume(ctx))
		must(t, s.Pin(ctx, "eu"))
		_, err := s.SetState(ctx, backend.Versionstamp{}, Ledger{Text: "set"})
		must(t, err)
		must(t, s.Reset(ctx))
		must(t, s.Kill(ctx))
		all := acts(t, open())
		if got := verbsOf(all); got != "Mend Withdraw WithdrawDelayed Retry Pause Resume Pin SetState Reset Kill" {
			t.Fatalf("it has %s", got)
		}
		for i, a := range all {
			if a.By != "ada@ops" || a.Ref != s.Ref() || time.Since(a.At) > time.Minute || i > 0 && a.Stamp.Compare(all[i-1].Stamp) >= 0 {
				t.Errorf("%+v", a)
			}
		}
		mend, retry, pin, set := all[9], all[6], all[3], all[2]
		if mend.Message != queued[0].Stamp || noteOf(t, mend.Before.Message) != 1 || noteOf(t, mend.After.Message) != 7 {
			t.Errorf("%+v", mend)
		}
		if retry.Message != dead.Stamp || retry.Before.Name != "Refusal" || retry.After.Name != "Note" || pin.Detail != "eu" {
			t.Errorf("%+v, %+v", retry, pin)
		}
		if !strings.Contains(string(set.After.Body), "set") || set.After.Name != "" {
			t.Errorf("%+v", set)
		}
	})
}

func TestLargeMessagesAreNotKeptAndOldActsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newStore(t, ledgers).Open()
		s := ledgers.At(db, "x")
		ctx := dserver.WithActor(context.Background(), "ada")
		for range 40 {
			must(t, s.Cast(ctx, Page{strings.Repeat("x", 20_000)}))
		}
		for _, q := range waiting(t, s) {
			must(t, s.Withdraw(ctx, q.Stamp))
		}
		all := acts(t, db)
		if b := all[0].Before; len(all) != 40 || b.Body != nil || b.Bytes < 20_000 || b.Name != "Page" {
			t.Errorf("%d acts, the last %+v", len(all), b)
		}
		<-time.After(91 * 24 * time.Hour)
		for left := 25; left > 0; left -= 15 {
			must(t, s.Pause(ctx))
			if n := len(acts(t, db)); n != left {
				t.Errorf("%d acts are left, want %d", n, left)
			}
		}
	})
}

// An act and what it tells are one commit.
func TestEachFaultLeavesAnActWithWhatItTells(t *testing.T) {
	eachOperatorFault(t, func(o *operator) {
		s := o.plain()
		must(o.t, s.CastAll(within(o.t), []any{Note{1}, Note{2}}))
		first := waiting(o.t, s)[0]
		o.do("withdraw", func(ctx context.Context, s *dserver.DServer[Ledger]) error {
			return s.Withdraw(dserver.WithActor(ctx, "ada"), first.Stamp)
		})
		if got := verbsOf(acts(o.t, o.store.Open())); got != "Withdraw" || len(waiting(o.t, s)) != 1 {
			o.t.Errorf("%v: it has %q", o.f, got)
		}
	})
}
