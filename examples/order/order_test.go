package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
	"github.com/dserver-go/dserver/examples/internal/child"
	"github.com/dserver-go/dserver/internal/dbtest"
)

// The program starts itself as its worker: in a test that is the test's program.
const workerVariable = "ORDER_TEST_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(workerVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// direct is a way to a provider without a network. The first answers are lost on it.
type direct struct {
	*Provider
	lost *int
}

// RoundTrip asks the provider.
func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	d.ServeHTTP(answer, r)
	if d.lost != nil && *d.lost > 0 {
		*d.lost--
		return nil, errors.New("the answer was lost")
	}
	return answer.Result(), r.Context().Err()
}

func paidThrough(d direct) *dserver.Definition[Order] {
	return PaidThrough(Gateway{Client: http.Client{Transport: d}})
}

// expectOneCharge fails unless the card was charged once, for this receipt.
func expectOneCharge(t testing.TB, p *Provider, card string, r Receipt) {
	t.Helper()
	if got := p.Of(card); len(got) != 1 || got[0] != r.Charge {
		t.Errorf("%s has the receipt %v, and was charged %v", card, r, got)
	}
}

// Whatever fails, and whoever dies at whatever commit, the card is charged once and the order is paid.
func TestTheCardIsChargedOnceWithEachFault(t *testing.T) {
	askedAgain := 0
	dservertest.EachFault(t, func(t *testing.T, f *dservertest.Faults) {
		p := &Provider{}
		f.Start(paidThrough(direct{Provider: p}))
		must(t, f.Do(func(ctx context.Context, db backend.Database) error {
			return Orders.At(db, "1").Call(ctx, Place{1500}, nil, dserver.Once("place"))
		}))
		var receipt Receipt
		must(t, f.Do(func(ctx context.Context, db backend.Database) (err error) {
			receipt, err = dserver.Call(ctx, Orders.At(db, "1"), Pay{Card: "visa"}, dserver.Once("pay"))
			return err
		}))
		must(t, f.Do(func(ctx context.Context, db backend.Database) error {
			o, err := Orders.At(db, "1").State(ctx)
			if err == nil && o.receipt() != receipt {
				t.Errorf("%v: the receipt is %v, and the order says %v", f, receipt, o.receipt())
			}
			return err
		}))
		expectOneCharge(t, p, "visa", receipt)
		if asked, _ := p.Count(); asked > 1 {
			askedAgain++
		}
	})
	if askedAgain == 0 {
		t.Error("the provider was never asked again: this proves little")
	}
}

// In each order of two presses of the button, on two cards, one of them is charged, and both are told.
func TestPressingTwiceChargesOnce(t *testing.T) {
	paid := map[string]bool{}
	dservertest.EachOrder(t, func(t *testing.T, o *dservertest.Order) {
		p := &Provider{}
		db := o.Start(paidThrough(direct{Provider: p}))
		must(t, Orders.At(db, "1").Cast(t.Context(), Place{1500}))
		o.Drain()
		var receipts [2]Receipt
		for i, card := range []string{"visa", "amex"} {
			o.Go(card, func(ctx context.Context) (err error) {
				receipts[i], err = dserver.Call(ctx, Orders.At(db, "1"), Pay{Card: card})
				return err
			})
		}
		o.Run()
		charged := append(p.Of("visa"), p.Of("amex")...)
		if len(charged) != 1 || receipts != [2]Receipt{{charged[0], 1500}, {charged[0], 1500}} {
			t.Errorf("%v were charged, the receipts are %v", charged, receipts)
		}
		paid[fmt.Sprint(p.Of("visa"))] = true
	})
	if len(paid) != 2 {
		t.Errorf("the first card was charged %v: it was always the same one", paid)
	}
}

// The provider charges, and its answers are lost for hours: the order is not given up, and it is paid with that charge
// when an operator says so.
func TestAnOrderOfWhichNobodyKnowsIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := 1000
		p := &Provider{}
		db := dservertest.Start(t, paidThrough(direct{p, &lost}))
		ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
		defer cancel()
		order := Orders.At(db, "1")
		must(t, order.Cast(ctx, Place{1500}))
		type end struct {
			receipt Receipt
			err     error
		}
		ended := make(chan end, 1)
		go func() {
			receipt, err := dserver.Call(ctx, order, Pay{Card: "visa"})
			ended <- end{receipt, err}
		}()
		<-time.After(2 * time.Hour)
		status, err := order.Status(ctx)
		if asked, _ := p.Count(); err != nil || asked != 100 || !status.Halted || !status.Locked || status.DeadLetters != 0 {
			t.Fatalf("the provider was asked %d times, and then %+v, %v", asked, status, err)
		}
		synctest.Wait()
		lost = 0
		must(t, order.Resume(ctx))
		e := <-ended
		must(t, e.err)
		expectOneCharge(t, p, "visa", e.receipt)
	})
}

func TestADeclinedCardLeavesTheOrderOpen(t *testing.T) {
	p := &Provider{}
	order := Orders.At(dservertest.Start(t, paidThrough(direct{Provider: p})), "1")
	if _, err := dserver.Call(t.Context(), order, Pay{Card: "visa"}); !errors.Is(err, ErrNoOrder) {
		t.Errorf("an order that was not placed: %v", err)
	}
	must(t, order.Cast(t.Context(), Place{1500}))
	if _, err := dserver.Call(t.Context(), order, Pay{Card: "stolen"}); !errors.Is(err, ErrDeclined) {
		t.Errorf("a stolen card: %v", err)
	}
	if asked, charges := p.Count(); asked != 1 || charges != 0 {
		t.Errorf("the provider was asked %d times, and made %d charges", asked, charges)
	}
	receipt, err := dserver.Call(t.Context(), order, Pay{Card: "visa"})
	must(t, err)
	expectOneCharge(t, p, "visa", receipt)
	if err := order.Call(t.Context(), Place{9900}, nil); !errors.Is(err, ErrPaid) {
		t.Errorf("another price for a paid order: %v", err)
	}
}

func TestTheProviderRefusesTheKeyOfAnotherRequest(t *testing.T) {
	g := Gateway{Client: http.Client{Transport: direct{Provider: &Provider{}}}}
	for i, want := range []string{"charge-1 <nil>", "charge-1 <nil>", " the card provider answered 409 Conflict: Conflict\n", "charge-2 <nil>"} {
		cents := []int64{100, 100, 200, 200}[i]
		key := []string{"a", "a", "a", "b"}[i]
		number, err := g.Charge(t.Context(), key, "visa", cents)
		if got := fmt.Sprint(number, " ", err); got != want {
			t.Errorf("request %d: %q, not %q", i, got, want)
		}
	}
}

// A real process, a real database: the worker is killed before a charge, after a charge of which nobody was told, and about
// when the answer is committed. Another one comes, the buyer is answered, and the card was charged once.
func TestKillBetweenChargeAndCommitChargesOnce(t *testing.T) {
	t.Setenv(workerVariable, "1")
	random := child.Random(t)
	database := dbtest.Name(t)
	var kill atomic.Pointer[func(Moment)]
	p := &Provider{Watch: func(m Moment) { (*kill.Load())(m) }}
	server := httptest.NewServer(p)
	defer server.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	workers := &staff{db: database, provider: server.URL, failed: cancel}
	must(t, workers.hire())
	t.Cleanup(func() { workers.at.kill() })

	db, err := open.Database(database)
	must(t, err)
	defer db.Close()
	var asked [Answered + 1]int
	for i := range child.Kills(t, 3) {
		moment := Moment(i % 3)
		pause := time.Duration(random.Int64N(int64(20 * time.Millisecond)))
		crash := sync.OnceFunc(func() {
			if moment == Answered {
				<-time.After(pause)
			}
			workers.crash()
		})
		kill.Store(new(func(m Moment) {
			if m == moment {
				crash()
			}
		}))
		before, _ := p.Count()
		card := fmt.Sprint("card ", i)
		receipt, err := buyer{Orders.At(db, card), card}.buy(ctx, 100)
		if err != nil {
			t.Fatal(err, context.Cause(ctx))
		}
		expectOneCharge(t, p, card, receipt)
		after, _ := p.Count()
		asked[moment] += after - before
	}
	t.Logf("how often the provider was asked when a worker was killed before a charge, after it and after the answer: %v", asked)
	if n := child.Kills(t, 3) / 3; asked[Charged] < 2*n {
		t.Errorf("after %d kills between charge and commit the provider was asked %d times", n, asked[Charged])
	}
	dservertest.Settle(t, db)
	if err := dserver.Check(ctx, db, PaidThrough(Gateway{})); err != nil {
		t.Error(err)
	}
	must(t, workers.dismiss())
}

func TestTheProgramChargesOnce(t *testing.T) {
	database := dbtest.Name(t)
	t.Setenv(workerVariable, "1")
	for crash, least := range map[string]int{"-crash=true": 5, "-crash=false": 4} { // in one database
		var out bytes.Buffer
		must(t, run(t.Context(), []string{"-db", database, "-orders", "4", crash}, &out))
		var asked int
		_, err := fmt.Sscanf(out.String(), "4 orders are paid: the provider was asked %d times and made 4 charges", &asked)
		if err != nil || asked < least {
			t.Errorf("with %s it printed %q: %v", crash, &out, err)
		}
	}
}

func TestAWorkerEndsWithItsInput(t *testing.T) {
	db, err := open.Database(dbtest.Name(t))
	must(t, err)
	defer db.Close()
	in, end := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- work(t.Context(), db, "http://127.0.0.1:0", in, io.Discard) }()
	must(t, end.Close())
	must(t, <-ended)
}
