package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
	"github.com/dserver-go/dserver/internal/dbtest"
)

// The program starts itself as its branches: in a test that is the test's program.
const branchVariable = "BOOTH_TEST_BRANCH"

func TestMain(m *testing.M) {
	if os.Getenv(branchVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestManyProcessesNeverOversell(t *testing.T) {
	database := dbtest.Name(t)
	t.Setenv(branchVariable, "1")
	for seats, want := range map[string]string{
		"20": "sold 20 of 20 seats, 70 buyers found it sold out",
		"95": "sold 90 of 95 seats, 0 buyers found it sold out",
	} {
		var out bytes.Buffer
		if err := run(t.Context(), []string{"-db", database, "-show", seats, "-seats", seats, "-buyers", "90"}, &out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("it printed %q, not %q", &out, want)
		}
	}
}

// Two buyers, one seat, and one who gives it back: in each order nobody shares a seat, and nobody is sent away while
// one is free.
func TestOneSeatIsOnePersons(t *testing.T) {
	sold := map[string]int{}
	dservertest.EachOrder(t, func(t *testing.T, o *dservertest.Order) {
		db := o.Start(Booths)
		booth := Booths.At(db, "show")
		if err := booth.Cast(t.Context(), Open{1}); err != nil {
			t.Fatal(err)
		}
		o.Drain()
		got := map[string]bool{}
		buy := func(ctx context.Context, who string) error {
			_, err := dserver.Call(ctx, booth, Buy{Who: who})
			if err == nil {
				got[who] = true
			}
			if errors.Is(err, ErrSoldOut) {
				err = nil
			}
			return err
		}
		o.Go("ada", func(ctx context.Context) error {
			if err := buy(ctx, "ada"); err != nil || !got["ada"] {
				return err
			}
			return booth.Call(ctx, Refund{"ada", 1}, nil)
		})
		o.Go("bob", func(ctx context.Context) error { return buy(ctx, "bob") })
		o.Run()
		s, err := booth.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := map[int]string{}
		if got["bob"] {
			want[1] = "bob"
		}
		if fmt.Sprint(s.Sold) != fmt.Sprint(want) {
			t.Errorf("%v got tickets, and %v is sold", got, s.Sold)
		}
		sold[fmt.Sprint(got)]++
	})
	if len(sold) != 3 {
		t.Errorf("these got tickets: %v; missing one of ada alone, bob alone, both in turn", sold)
	}
}

func TestASeatIsGivenBackByItsOwnerAlone(t *testing.T) {
	db := dservertest.Start(t, Booths)
	booth := Booths.At(db, "show")
	ctx := t.Context()
	if err := booth.Call(ctx, Open{1}, nil); err != nil {
		t.Fatal(err)
	}
	if seat, err := dserver.Call(ctx, booth, Buy{Who: "ada"}); seat != 1 || err != nil {
		t.Fatal(seat, err)
	}
	if err := booth.Call(ctx, Refund{"bob", 1}, nil); !errors.Is(err, ErrNotYours) {
		t.Errorf("bob's refund of ada's seat: %v", err)
	}
	if err := booth.Call(ctx, Open{5}, nil); !errors.Is(err, ErrWasOpened) {
		t.Errorf("a show was opened twice: %v", err)
	}
}
