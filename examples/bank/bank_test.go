package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
	"github.com/dserver-go/dserver/examples/internal/child"
	"github.com/dserver-go/dserver/internal/dbtest"
)

func TestMain(m *testing.M) {
	child.Main(m, map[string]child.Role{"consumer": run})
}

func openAccounts(t *testing.T, db backend.Database, cents int64, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := Accounts.At(db, name).Cast(t.Context(), Open{cents}, dserver.Once("open")); err != nil {
			t.Fatal(err)
		}
	}
}

// In each order of two transfers that cross, an auditor who comes at any moment finds all the money.
func TestMoneyIsAllThereAtEveryMoment(t *testing.T) {
	onItsWay := false
	dservertest.EachOrder(t, func(t *testing.T, o *dservertest.Order) {
		db := o.Start(Accounts)
		openAccounts(t, db, 10, "a", "b")
		o.Drain()
		o.Go("a pays b", func(ctx context.Context) error {
			return Accounts.At(db, "a").Cast(ctx, Transfer{To: "b", Cents: 7})
		})
		o.Go("b pays a", func(ctx context.Context) error {
			return Accounts.At(db, "b").Cast(ctx, Transfer{To: "a", Cents: 10})
		})
		o.Go("auditor", func(ctx context.Context) error {
			r, err := Audit(ctx, db)
			if err == nil && r.Total != 20 {
				err = fmt.Errorf("there are %d cents, %d of them on their way", r.Total, r.OnItsWay)
			}
			onItsWay = onItsWay || r.OnItsWay > 0
			return err
		})
		o.Run()
		a, err := Accounts.At(db, "a").State(t.Context())
		if err != nil || a.Cents != 13 {
			t.Errorf("a has %d at the end, %v", a.Cents, err)
		}
	})
	if !onItsWay {
		t.Error("no audit met money on its way: this proves little")
	}
}

// Whatever fails, what was transferred is transferred once.
func TestTransferSurvivesEachFault(t *testing.T) {
	dservertest.EachFault(t, func(t *testing.T, f *dservertest.Faults) {
		f.Start(Accounts)
		send := func(to string, m any, key string) {
			err := f.Do(func(ctx context.Context, db backend.Database) error {
				return Accounts.At(db, to).Call(ctx, m, nil, dserver.Once(key))
			})
			if err != nil {
				t.Fatalf("%v: %v", f, err)
			}
		}
		send("a", Open{10}, "open")
		send("b", Open{10}, "open")
		send("a", Transfer{To: "b", Cents: 7}, "rent")
		send("b", Transfer{To: "a", Cents: 2}, "change")
		<-time.After(time.Minute) // virtual; a consumer that died starts again
		err := f.Do(func(ctx context.Context, db backend.Database) error {
			r, err := Audit(ctx, db)
			if err != nil {
				return err
			}
			a, err := Accounts.At(db, "a").State(ctx)
			if err == nil && (a.Cents != 5 || r != Report{Total: 20}) {
				t.Errorf("%v: a has %d, the audit says %+v", f, a.Cents, r)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// Real processes on a real database: of three consumers, two are killed again and again.
func TestKillConsumersAndNoCentIsLost(t *testing.T) {
	database := dbtest.Name(t)
	moments := child.Random(t)
	start := func() *child.Process { return child.Start(t, "consumer", "-db", database, "-serve") }
	start().Expect() // this one lives
	victims := [2]*child.Process{start(), start()}

	db, err := open.Database(database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for i := range accounts {
		openAccounts(t, db, first, name(i))
	}
	dservertest.Settle(t, db)
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	var audits, transfers atomic.Int64
	for s := range accounts {
		work.Go(func() {
			for i := 1; ctx.Err() == nil; i++ {
				m := Transfer{To: name((s + i) % accounts), Cents: int64(1 + i*s*997%first)}
				_, err := dserver.Call(t.Context(), Accounts.At(db, name(s)), m)
				if err != nil && !errors.Is(err, ErrFunds) {
					t.Error(err)
					return
				}
				transfers.Add(1)
			}
		})
	}
	work.Go(func() {
		for ctx.Err() == nil {
			r, err := Audit(t.Context(), db)
			if err != nil || r.Total != total {
				t.Errorf("there are %d cents, %d of them on their way: %v", r.Total, r.OnItsWay, err)
				return
			}
			audits.Add(1)
			<-time.After(2 * time.Millisecond) // leaves the machine to the transfers
		}
	})
	for range child.Kills(t, 6) {
		<-time.After(time.Duration(moments.Int64N(int64(300 * time.Millisecond))))
		i := moments.IntN(len(victims))
		victims[i].Kill()
		victims[i] = start()
	}
	for late := time.Now().Add(time.Minute); (transfers.Load() < 10 || audits.Load() < 10) && time.Now().Before(late); {
		<-time.After(10 * time.Millisecond) // a busy machine has done little so far
	}
	stop()
	work.Wait()
	dservertest.Settle(t, db)
	if r, err := Audit(t.Context(), db); err != nil || (r != Report{Total: total}) {
		t.Errorf("at the end there are %d cents, %d of them on their way: %v", r.Total, r.OnItsWay, err)
	}
	if err := dserver.Check(t.Context(), db, Accounts); err != nil {
		t.Error(err)
	}
	t.Logf("%d transfers, %d audits", transfers.Load(), audits.Load())
	if transfers.Load() < 10 || audits.Load() < 10 {
		t.Error("too few to prove anything")
	}
}

func TestTheProgramTellsWhatItFound(t *testing.T) {
	database := dbtest.Name(t)
	for range 2 { // the second time with the accounts of the first
		var out bytes.Buffer
		if err := run(t.Context(), []string{"-db", database, "-transfers", "50"}, &out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "50 transfers") || !strings.Contains(out.String(), "each found 1000.00") {
			t.Errorf("it printed %q", &out)
		}
	}
}
