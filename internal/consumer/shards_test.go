package consumer

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// named is a definition for each name.
func named(names ...string) (defs []*turn.Definition) {
	for _, name := range names {
		def := define()
		def.Name = name
		defs = append(defs, def)
	}
	return defs
}

// A consumer of many types watches no more than there is of shards, and one of one type a few.
func TestShardsOfManyTypesAreAFixedNumber(t *testing.T) {
	for _, c := range []struct{ types, atLeast, atMost int }{
		{1, 8, 8},
		{2, 8, 16},
		{200, tenant.Shards, tenant.Shards},
	} {
		var names []string
		for i := range c.types {
			names = append(names, fmt.Sprint("type", i))
		}
		shards := newConsumer(backendtest.NewModel(), Options{}, named(names...)...).shards()
		if len(shards) < c.atLeast || len(shards) > c.atMost {
			t.Errorf("%d types have %d shards", c.types, len(shards))
		}
		for _, name := range names {
			for i := range 100 {
				if shard := tenant.ShardOf(tenant.Ref{Type: name, ID: fmt.Sprint(i)}); !slices.Contains(shards, shard) {
					t.Fatalf("a server of %s is in shard %d, which is not watched", name, shard)
				}
			}
		}
	}
}

// neighbours is the names of types of one group, in their order.
func neighbours(n int) (names []string) {
	first := tenant.ShardsOf("a0")
	for i := 0; len(names) < n; i++ {
		if name := fmt.Sprint("a", i); slices.Equal(tenant.ShardsOf(name), first) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// The marks of types that are not run here are passed by, however many they are, and those of all that are run are found.
func TestForeignTypesInAShardArePassedBy(t *testing.T) {
	names := neighbours(5)
	reads := 0
	db := &readMeddled{backendtest.NewModel(), func() { reads++ }}
	c := newConsumer(db, Options{}, named(names[0], names[2], names[4])...)
	c.max = 0 // it has no workers
	shard := tenant.ShardsOf(names[0])[0]
	var all []tenant.Ref
	for _, name := range names {
		n := 3
		if name == names[1] || name == names[3] {
			n = 3 * tenant.MaxScan
		}
		for i := 0; n > 0; i++ {
			if ref := (tenant.Ref{Type: name, ID: fmt.Sprint(i)}); tenant.ShardOf(ref) == shard {
				all = append(all, ref)
				n--
			}
		}
	}
	mark(t, c.DB, all...)
	if found := scanned(t, c, shard).found; found != 9 || c.waiting() != 9 {
		t.Errorf("%d marks were found, and %d servers woken", found, c.waiting())
	}
	if reads != 3 { // one for each type that is run, with what follows it
		t.Errorf("it took %d reads", reads)
	}
}

// A consumer moves what is due in its shards, of types as well that it does not run: their rows would be in its way.
func TestWhatIsDueOfANeighbourIsMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, defs := backendtest.NewModel(), named(neighbours(2)...)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, db, Options{}, defs[1]) }()
		if err := handleOf(db, defs[0]).Cast(ctx, toil, tenant.How{After: time.Minute}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			wait   time.Duration
			queued int64
		}{{59 * time.Second, 0}, {2 * time.Second, 1}} {
			<-time.After(c.wait)
			if status, err := operatorOf(db, defs[0]).Status(ctx); err != nil || status.Queued != c.queued {
				t.Errorf("%v later %d are queued, %v", c.wait, status.Queued, err)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}

// Bells that ring for others cost a look each until it is known that they do; one ring that finds something is heard at once.
func TestNoiseIsHeardWithPauses(t *testing.T) {
	var n noise
	if d := n.after(false); d != 0 {
		t.Errorf("the first ring for nothing makes the next one wait for %v", d)
	}
	for range 100 {
		n.after(false)
	}
	if d := n.after(false); d < 5*time.Millisecond || d > maxNoise*time.Millisecond {
		t.Errorf("among rings for nothing one waits for %v", d)
	}
	if d := n.after(true); d != 0 {
		t.Errorf("a ring for something waits for %v", d)
	}
}
