package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// takePlaces makes all who begin a snapshot wait, until the function that it returns is called.
func (p *pool) takePlaces() (free func()) {
	for range cap(p.slots) {
		<-p.slots
	}
	return func() {
		for range cap(p.slots) {
			p.slots <- struct{}{}
		}
	}
}

func (p *pool) count() (joiners, views, idle int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.joiners), len(p.running), len(p.idle)
}

func (p *pool) awaitJoiners(t *testing.T, want int) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) {
		if n, _, _ := p.count(); n == want {
			return
		} else if time.Now().After(limit) {
			t.Fatalf("%d snapshots wait, not %d", n, want)
		}
	}
}

func (p *pool) awaitPlaces(t *testing.T) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) {
		if _, views, _ := p.count(); views == 0 && len(p.slots) == cap(p.slots) {
			return
		} else if time.Now().After(limit) {
			t.Fatalf("%d views are left, %d of %d places are free", views, len(p.slots), cap(p.slots))
		}
	}
}

// Snapshots that begin while others wait are one transaction of the server. Each ends on its own, and the last gives the
// connection back.
func TestSnapshotsThatBeginTogetherAreOne(t *testing.T) {
	t.Parallel()
	db := openTest(t, pgtest.Name(t))
	set(t, db, "a", "1")
	free := db.pool.takePlaces()
	const members = maxMembers + 1
	var begun, all sync.WaitGroup
	begun.Add(members)
	goOn := make(chan struct{})
	for i := range members {
		all.Go(func() {
			ctx, end := context.WithCancel(t.Context())
			defer end()
			err := db.Read(ctx, func(tx backend.ReadTx) error {
				value, err := tx.Get(backend.NewKey("a")).Get()
				begun.Done()
				<-goOn
				if i%2 == 0 || err != nil {
					return err
				}
				if i%3 == 0 {
					end() // which is nobody else's
				}
				again, err := tx.Get(backend.NewKey("a")).Get()
				if string(value) != "1" || err == nil && string(again) != "1" {
					t.Errorf("%q, and then %q", value, again)
				}
				return err
			})
			if isEnded := i%2 != 0 && i%3 == 0; isEnded != errors.Is(err, context.Canceled) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	db.pool.awaitJoiners(t, members)
	free()
	begun.Wait()
	if _, views, _ := db.pool.count(); views > members/4 { // 2 where connections are made soon
		t.Errorf("%d views of %d snapshots", views, members)
	}
	set(t, db, "a", "2")
	close(goOn)
	all.Wait()
	db.pool.awaitPlaces(t)
	if a := get(t, db, "a"); a != "2" {
		t.Errorf("a later snapshot has %q", a)
	}
}

// Who gives up waiting for a snapshot is in none, and one that nobody wants any more is given back.
func TestSnapshotThatIsNotWaitedForIsNoneAtAll(t *testing.T) {
	t.Parallel()
	db := openTest(t, pgtest.Name(t), Snapshots(1))
	for range 3 {
		free := db.pool.takePlaces()
		ctx, end := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				err := db.Read(ctx, func(tx backend.ReadTx) error {
					_, err := tx.Get(backend.NewKey("a")).Get()
					return err
				})
				if !errors.Is(err, context.Canceled) || !strings.Contains(fmt.Sprint(err), "one of the 1 snapshots") {
					t.Error(err)
				}
			})
		}
		db.pool.awaitJoiners(t, 3)
		end()
		all.Wait()
		free()
		if a := get(t, db, "a"); a != "" {
			t.Errorf("it is %q", a)
		}
	}
}

// Queries that are carried out together bring what each brings alone.
func TestQueriesTogetherBringWhatTheyBringAlone(t *testing.T) {
	t.Parallel()
	db := openTest(t, pgtest.Name(t))
	long := strings.Repeat("l", headBytes)
	names := []string{"", "a", "ab", "b", "c", "\x00", "\xff", long[:headBytes-20], long, long + "a", long + "b", long + "b\x00"}
	key := func(name string) backend.Key { return backend.Key("k" + name) }
	c, err := db.connect(t.Context())
	must(t, err)
	t.Cleanup(c.close)
	rapid.Check(t, func(r *rapid.T) {
		any := rapid.SampledFrom(names)
		must(t, db.Transact(t.Context(), func(tx backend.Tx) error {
			tx.Clear(backend.Range{Begin: backend.Key("k"), End: backend.Key("l")})
			for _, name := range rapid.SliceOfN(any, 0, 20).Draw(r, "stored") {
				tx.Set(key(name), bytes.Repeat([]byte("v"), rapid.IntRange(0, 40).Draw(r, "size")))
			}
			return nil
		}))
		queries := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) query {
			if rapid.Bool().Draw(r, "is key") {
				return query{r: key(any.Draw(r, "key")).Only(), isKey: true}
			}
			return query{
				r: backend.Range{Begin: key(any.Draw(r, "begin")), End: key(any.Draw(r, "end"))},
				o: backend.RangeOptions{
					Limit: rapid.IntRange(0, 3).Draw(r, "limit"), Bytes: rapid.IntRange(0, 60).Draw(r, "bytes"),
					Reverse: rapid.IntRange(0, 3).Draw(r, "reverse") == 0,
				},
			}
		}), 2, 30).Draw(r, "queries")
		together, alone := slices.Clone(queries), slices.Clone(queries)
		var all []*query
		for i := range together {
			all = append(all, &together[i])
		}
		must(t, c.read(t.Context(), all, false))
		for i := range alone {
			must(t, c.read(t.Context(), []*query{&alone[i]}, false))
			if !reflect.DeepEqual(together[i], alone[i]) {
				r.Fatalf("%+v\nalone %+v", together[i], alone[i])
			}
		}
	})
}
