package dservertest_test

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
)

// Dice is a state with what a handler has thrown, and Throw makes one throw.
type (
	Dice struct {
		Thrown []int
		Named  map[string]bool
		Asks   dserver.From[int]
	}
	Throw struct{ How string }
	Keep  struct{ N int }
	Ask   struct{ dserver.Returns[int] }
	Bad   struct{ N int }
	Pay   struct{}
	Tell  struct{}
)

var dice = dserver.Define[Dice]("dice")

var dices = dice.With(
	dserver.HandleCast(func(ctx *dserver.Context, d *Dice, m Throw) error {
		switch m.How {
		case "state":
			d.Thrown = append(d.Thrown, mathrand.Int())
		case "message":
			ctx.Cast(dice.Ref("other"), Keep{mathrand.Int()})
		case "server":
			ctx.Cast(dice.Ref(fmt.Sprint(mathrand.Int())), Keep{1})
		case "letter":
			ctx.Cast(dice.Ref("other"), Bad{mathrand.Int()})
		case "library":
			for i := range 3 {
				ctx.Cast(ctx.Self(), Keep{i}, dserver.After(time.Minute), dserver.Once(fmt.Sprint(i)))
			}
			d.Named[rand.Text()] = true
		}
		return nil
	}),
	dserver.HandleCast(func(_ *dserver.Context, d *Dice, m Keep) error {
		d.Thrown = append(d.Thrown, m.N)
		return nil
	}),
	dserver.HandleCast(func(*dserver.Context, *Dice, Bad) error { return errBad }),
	dserver.HandleCall(func(ctx *dserver.Context, d *Dice, m Ask) (int, error) {
		d.Asks = dserver.ReplyLater(ctx, m)
		ctx.SetTimer("tell", time.Minute, Tell{})
		return 0, nil
	}),
	dserver.HandleCast(func(ctx *dserver.Context, d *Dice, _ Tell) error {
		d.Asks.Reply(ctx, 1)
		return nil
	}),
	dserver.HandleLocked(
		func(ctx *dserver.LockedContext, _ Dice, _ Pay) (string, error) { return ctx.IdempotencyKey(), nil },
		func(_ *dserver.Context, d *Dice, _ Pay, key string) error {
			d.Named[key] = true
			return nil
		}))

var errBad = &dserver.Error{Code: "bad", Text: "no"}

const randomVariable = "DSERVERTEST_RANDOM"

func TestRandomChild(t *testing.T) {
	how := os.Getenv(randomVariable)
	if how == "" {
		t.Skip("it is run, and has to fail, by TestEachOrderNoticesWhatIsRandom")
	}
	dservertest.EachOrder(t, func(_ *testing.T, o *dservertest.Order) {
		db := o.Start(dices)
		a := dices.At(db, "a")
		o.Go("thrower", func(ctx context.Context) error {
			if how == "sender" {
				return a.Cast(ctx, Keep{mathrand.Int()})
			}
			return a.Cast(ctx, Throw{how})
		})
		o.Run()
	})
}

// The program must be the same in the same order. It is told that it is not, wherever that comes from.
func TestEachOrderNoticesWhatIsRandom(t *testing.T) {
	for _, how := range []string{"state", "message", "server", "letter", "sender"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			command := exec.Command(os.Args[0], "-test.run=^TestRandomChild$", "-test.v")
			command.Env = append(os.Environ(), randomVariable+"="+how)
			out, err := command.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "the program is not the same in the same order") {
				t.Errorf("it was not noticed: %v\n%s", err, out)
			}
		})
	}
}

// What the library does at random is no matter of the program.
func TestEachOrderIsNotMisledByTheLibrary(t *testing.T) {
	dservertest.EachOrder(t, func(t *testing.T, o *dservertest.Order) {
		db := o.Start(dices)
		a := dices.At(db, "a")
		must(t, a.CastAll(t.Context(), []any{Throw{"library"}, Pay{}}))
		o.Go("asker", func(ctx context.Context) error {
			_, err := dserver.Call(ctx, a, Ask{})
			return err
		})
		o.Run()
		s, err := a.State(t.Context())
		if err != nil || fmt.Sprint(s.Thrown) != "[0 1 2]" || len(s.Named) != 2 {
			t.Errorf("%+v, %v", s, err)
		}
	})
}
