package dserver_test

import (
	"fmt"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/statediff"
)

// Two programs of one time: the newer one has a field more in all that the state holds.
type (
	goodsOld struct{ Article string }
	goodsNew struct{ Article, Price string }
	partOld  struct {
		ID string `dserver:"id"`
		N  int
	}
	partNew struct {
		ID   string `dserver:"id"`
		N    int
		Note string
	}
	depotOld struct {
		Name    string
		ByName  map[string]goodsOld
		Lines   []goodsOld
		Parts   []partOld
		Tracked statediff.Map[string, goodsOld]
		Queue   statediff.List[goodsOld]
	}
	depotNew struct {
		Name    string
		ByName  map[string]goodsNew
		Lines   []goodsNew
		Parts   []partNew
		Tracked statediff.Map[string, goodsNew]
		Queue   statediff.List[goodsNew]
		Owner   string
	}
	stockUp   struct{}
	countAll  struct{ dserver.Returns[int] }
	renameAll struct{ To string }
)

func oldDepots() *dserver.Definition[depotOld] {
	return dserver.Define("depot",
		dserver.HandleCall(func(_ *dserver.Context, d *depotOld, _ countAll) (int, error) {
			n := len(d.ByName) + len(d.Lines) + len(d.Parts)
			for range d.Tracked.All() {
				n++
			}
			for range d.Queue.All("") {
				n++
			}
			_, _ = d.Tracked.Get("a")
			return n, nil
		}),
		dserver.HandleCast(func(_ *dserver.Context, d *depotOld, m renameAll) error {
			d.ByName["a"] = goodsOld{m.To}
			d.Lines[0].Article = m.To
			d.Parts[0].N++
			d.Tracked.Set("a", goodsOld{m.To})
			for at := range d.Queue.All("") {
				d.Queue.Set(at, goodsOld{m.To})
				d.Queue.Move(at, "")
				break
			}
			return nil
		}))
}

func newDepots() *dserver.Definition[depotNew] {
	return dserver.Define("depot",
		dserver.HandleCast(func(_ *dserver.Context, d *depotNew, _ stockUp) error {
			pen := goodsNew{"pen", "3"}
			d.Owner, d.ByName["a"] = "ada", pen
			d.Lines = []goodsNew{pen, {"cup", "5"}}
			d.Parts = []partNew{{"p", 1, "round"}}
			d.Tracked.Set("a", pen)
			d.Queue.Append(pen)
			d.Queue.Append(goodsNew{"cup", "5"})
			return nil
		}))
}

func (d *depotNew) String() string {
	a, _ := d.Tracked.Get("a")
	var queue []goodsNew
	for _, g := range d.Queue.All("") {
		queue = append(queue, g)
	}
	return fmt.Sprint(d.Name, d.ByName, d.Lines, d.Parts, a, queue, d.Owner)
}

// An older program, even one that only reads, leaves what it does not know as it is; what it changes keeps the rest.
func TestAnOlderProgramKeepsWhatItDoesNotKnow(t *testing.T) {
	old, fresh := oldDepots(), newDepots()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		stop := run(t, dserver.Consumer{}, db, fresh)
		must(t, fresh.At(db, "d").Cast(ctx, stockUp{}))
		expectDepot(t, fresh.At(db, "d"), "map[a:{pen 3}] [{pen 3} {cup 5}] [{p 1 round}] {pen 3} [{pen 3} {cup 5}]ada")
		stop()

		start(t, open(), old)
		before, err := dserver.Call(ctx, old.At(open(), "d"), countAll{})
		if must(t, err); before != 7 {
			t.Errorf("%d things", before)
		}
		expectDepot(t, fresh.At(db, "d"), "map[a:{pen 3}] [{pen 3} {cup 5}] [{p 1 round}] {pen 3} [{pen 3} {cup 5}]ada")
		must(t, old.At(db, "d").Cast(ctx, renameAll{"ink"}))
		expectDepot(t, fresh.At(db, "d"), "map[a:{ink 3}] [{ink 3} {cup 5}] [{p 2 round}] {ink 3} [{cup 5} {ink 3}]ada")
	})
}

// expectDepot waits for a state.
func expectDepot(t *testing.T, d *dserver.DServer[depotNew], want string) {
	t.Helper()
	got := ""
	eventually(t, "the state is "+want, func() bool {
		s, err := d.State(within(t))
		if got = s.String(); err != nil {
			got = err.Error()
		}
		return got == want
	})
	if got != want {
		t.Errorf("the state is %s, not %s", got, want)
	}
}
