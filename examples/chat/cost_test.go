package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/statediff"
)

// cost is what a database was asked for. A row is read when it is returned, and a key is written by whatever changes it.
type cost struct{ rows, bytesRead, keys, bytesWritten int }

func (c cost) minus(d cost) cost {
	return cost{c.rows - d.rows, c.bytesRead - d.bytesRead, c.keys - d.keys, c.bytesWritten - d.bytesWritten}
}

// meter is a database that counts, for all who use it.
type meter struct {
	backend.Database

	mu    sync.Mutex // guards total
	total cost
}

func (m *meter) read(rows, bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total.rows += rows
	m.total.bytesRead += bytes
}

func (m *meter) wrote(bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total.keys++
	m.total.bytesWritten += bytes
}

// of is what fn costs.
func (m *meter) of(fn func()) cost {
	look := func() cost {
		synctest.Wait() // what comes after an answer is part of it
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.total
	}
	before := look()
	fn()
	return look().minus(before)
}

func (m *meter) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	return m.Database.Transact(ctx, func(tx backend.Tx) error { return fn(meteredTx{tx, m}) })
}

func (m *meter) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	return m.Database.Read(ctx, func(tx backend.ReadTx) error { return fn(meteredReadTx{tx, m}) })
}

func (m *meter) get(value backend.Future[[]byte]) backend.Future[[]byte] {
	return backend.Later(sync.OnceValues(func() ([]byte, error) {
		v, err := value.Get()
		m.read(1, len(v))
		return v, err
	}))
}

func (m *meter) getRange(pairs backend.Future[[]backend.KeyValue]) backend.Future[[]backend.KeyValue] {
	return backend.Later(sync.OnceValues(func() ([]backend.KeyValue, error) {
		list, err := pairs.Get()
		bytes := 0
		for _, pair := range list {
			bytes += len(pair.Key) + len(pair.Value)
		}
		m.read(len(list), bytes)
		return list, err
	}))
}

type meteredReadTx struct {
	backend.ReadTx
	meter *meter
}

func (tx meteredReadTx) Get(key backend.Key) backend.Future[[]byte] {
	return tx.meter.get(tx.ReadTx.Get(key))
}

func (tx meteredReadTx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	return tx.meter.getRange(tx.ReadTx.GetRange(r, o))
}

type meteredTx struct {
	backend.Tx
	meter *meter
}

func (tx meteredTx) Get(key backend.Key) backend.Future[[]byte] {
	return tx.meter.get(tx.Tx.Get(key))
}

func (tx meteredTx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	return tx.meter.getRange(tx.Tx.GetRange(r, o))
}

func (tx meteredTx) Set(key backend.Key, value []byte) {
	tx.meter.wrote(len(key) + len(value))
	tx.Tx.Set(key, value)
}

func (tx meteredTx) Clear(r backend.Range) {
	tx.meter.wrote(len(r.Begin) + len(r.End))
	tx.Tx.Clear(r)
}

func (tx meteredTx) Add(key backend.Key, delta int64) {
	tx.meter.wrote(len(key) + 8)
	tx.Tx.Add(key, delta)
}

func (tx meteredTx) Append(prefix backend.Key, value []byte) {
	tx.meter.wrote(len(prefix) + len(backend.Versionstamp{}) + len(value))
	tx.Tx.Append(prefix, value)
}

func (tx meteredTx) Stamp(key backend.Key) {
	tx.meter.wrote(len(key) + len(backend.Versionstamp{}))
	tx.Tx.Stamp(key)
}

// costs are those of what people do in a room.
type costs struct {
	first   cost // a line, for a consumer that has just started
	line    cost // a line that somebody waits for, with the question and the answer
	last    cost // the last ten lines
	catchUp cost // hearing the last line, when it was missed
}

func (c costs) all() []cost { return []cost{c.first, c.line, c.last, c.catchUp} }

func (c costs) String() string {
	text := ""
	for i, what := range []string{"the first line", "a line", "the last lines", "catching up"} {
		c := c.all()[i]
		text += fmt.Sprintf("\n%15s: %3d rows and %6d bytes read, %2d keys and %6d bytes written",
			what, c.rows, c.bytesRead, c.keys, c.bytesWritten)
	}
	return text
}

// measure has a room of some definition grow, and returns what things cost at each number of lines.
func measure[S any](t *testing.T, rooms *dserver.Definition[S], sizes ...int) (at []costs) {
	t.Helper()
	store := backendtest.NewStore()
	said := 0
	for _, size := range sizes {
		fill(t, store, rooms, size-said)
		said = size
		at = append(at, measureNow(t, store, rooms))
		said += 3
	}
	db := store.Open()
	defer db.Close()
	must(t, dserver.Check(t.Context(), db, rooms))
	return at
}

// with runs fn beside a consumer of its own, which begins with an empty cache.
func with[S any](t *testing.T, store *backendtest.Store, rooms *dserver.Definition[S], fn func(m *meter, room *dserver.DServer[S])) {
	t.Helper()
	m := &meter{Database: store.Open()}
	defer m.Close()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- dserver.Run(ctx, m, rooms) }()
	defer func() {
		stop()
		must(t, <-ended)
	}()
	synctest.Wait()
	fn(m, rooms.At(m, "lobby"))
}

func fill[S any](t *testing.T, store *backendtest.Store, rooms *dserver.Definition[S], n int) {
	t.Helper()
	with(t, store, rooms, func(_ *meter, room *dserver.DServer[S]) {
		must(t, room.Call(t.Context(), Join{"ada"}, nil))
		for ; n > 0; n -= min(n, 20) {
			lines := make([]any, min(n, 20))
			for i := range lines {
				lines[i] = Say{Who: "ada", Text: fmt.Sprintf("line %6d", i)}
			}
			must(t, room.CastAll(t.Context(), lines))
			_, err := dserver.Call(t.Context(), room, Count{}) // a turn of more messages compares more after each
			must(t, err)
		}
	})
}

func measureNow[S any](t *testing.T, store *backendtest.Store, rooms *dserver.Definition[S]) (c costs) {
	t.Helper()
	with(t, store, rooms, func(m *meter, room *dserver.DServer[S]) {
		ctx := t.Context()
		say := func() (place statediff.Place) {
			place, err := dserver.Call(ctx, room, Say{Who: "ada", Text: fmt.Sprintf("line %6d", 0)})
			must(t, err)
			return place
		}
		var first, second statediff.Place
		c.first = m.of(func() { first = say() })
		c.line = m.of(func() {
			heard := make(chan News)
			go func() {
				news, err := dserver.Call(ctx, room, Next{After: first})
				if err != nil {
					t.Error(err)
				}
				heard <- news
			}()
			synctest.Wait()
			second = say()
			if news := <-heard; news.To != second || len(news.Lines) != 1 {
				t.Errorf("somebody who waited heard %v", news)
			}
		})
		say()
		c.last = m.of(func() {
			news, err := dserver.Query(ctx, room, Last{N: 10})
			must(t, err)
			if len(news.Lines) != 10 {
				t.Errorf("the last lines are %v", news)
			}
		})
		c.catchUp = m.of(func() {
			news, err := dserver.Call(ctx, room, Next{After: second})
			must(t, err)
			if len(news.Lines) != 1 {
				t.Errorf("somebody who missed a line heard %v", news)
			}
		})
	})
	return c
}

// exceeds tells whether a cost has grown by more than a short history differs from a longer one: an iteration loads a
// few rows more than it yields, if there are so many, and numbers take a byte more.
func (c cost) exceeds(d cost) bool {
	return c.rows > d.rows+40 || c.bytesRead > d.bytesRead+4000 || c.keys > d.keys+4 || c.bytesWritten > d.bytesWritten+256
}

func TestALineCostsTheSameHoweverManyThereAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sizes := []int{10, 1000, 10_000}
		at := measure(t, Rooms, sizes...)
		for i, now := range at {
			t.Logf("at %d lines:%v", sizes[i], now)
			for j, c := range now.all() {
				if c.exceeds(at[0].all()[j]) {
					t.Errorf("at %d lines one of these has grown: %+v", sizes[i], c)
				}
			}
		}
	})
}

// PlainRoom is a room as one would write it first.
type PlainRoom struct {
	Lines   []Line
	Waiting []dserver.From[News]
}

var plainRooms = dserver.Define("room",
	dserver.HandleCast(func(*dserver.Context, *PlainRoom, Join) error { return nil }),
	dserver.HandleCall(func(ctx *dserver.Context, r *PlainRoom, m Say) (statediff.Place, error) {
		r.Lines = append(r.Lines, Line{m.Who, m.Text})
		for _, from := range r.Waiting {
			from.Reply(ctx, r.from(len(r.Lines)-1))
		}
		r.Waiting = nil
		return r.from(len(r.Lines)).To, nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, r *PlainRoom, m Last) (News, error) {
		return r.from(len(r.Lines) - m.N), nil
	}),
	dserver.HandleCall(func(ctx *dserver.Context, r *PlainRoom, m Next) (News, error) {
		after, err := strconv.Atoi(string(m.After))
		if err != nil || after < len(r.Lines) {
			return r.from(after), err
		}
		r.Waiting = append(r.Waiting, dserver.ReplyLater(ctx, m))
		return News{}, nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, r *PlainRoom, _ Count) (int, error) { return len(r.Lines), nil }),
)

func (r *PlainRoom) from(i int) News {
	return News{r.Lines[i:], statediff.Place(strconv.Itoa(len(r.Lines)))}
}

// The same measure finds that a plain slice is written anew with each line, and loaded whole by a consumer that starts.
func TestTheMeasureFindsASliceThatGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := measure(t, plainRooms, 10, 1000)
		t.Logf("at 10 lines:%v", at[0])
		t.Logf("at 1000 lines:%v", at[1])
		if !at[1].first.exceeds(at[0].first) || !at[1].line.exceeds(at[0].line) {
			t.Error("nothing has grown")
		}
	})
}
