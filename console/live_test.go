package console_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/console"
	"github.com/dserver-go/dserver/dserver"
)

// stream is what a browser that shows a page is sent.
type stream struct {
	t      testing.TB
	events *bufio.Scanner
	leave  context.CancelFunc
	shown  map[string]string // the regions, as they were sent last
}

func (s *site) look(path string) *stream {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), longest)
	s.t.Cleanup(cancel)
	to := s.root + path + "?live="
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	must(s.t, err)
	response, err := s.server.Client().Do(r)
	must(s.t, err)
	s.t.Cleanup(func() { response.Body.Close() })
	if kind := response.Header.Get("Content-Type"); kind != "text/event-stream" {
		s.t.Fatalf("the stream of %s is %s, %s", path, response.Status, kind)
	}
	events := bufio.NewScanner(response.Body)
	events.Buffer(nil, 1<<20)
	return &stream{s.t, events, cancel, map[string]string{}}
}

// next waits for an event; false when the stream has ended.
func (s *stream) next() bool {
	s.t.Helper()
	for s.events.Scan() {
		data, isData := strings.CutPrefix(s.events.Text(), "data: ")
		if !isData {
			continue
		}
		var event struct{ Region, HTML string }
		must(s.t, json.Unmarshal([]byte(data), &event))
		s.shown[event.Region] = event.HTML
		return true
	}
	return false
}

// until waits until a region has something.
func (s *stream) until(region, has string) {
	s.t.Helper()
	for !strings.Contains(s.shown[region], has) {
		if !s.next() {
			s.t.Fatalf("the stream has ended, and %s was %s, without %q", region, s.shown[region], has)
		}
	}
}

// countedDB counts what is read and watched.
type countedDB struct {
	backend.Database
	reads, watches atomic.Int64
}

func (db *countedDB) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	db.reads.Add(1)
	return db.Database.Read(ctx, func(tx backend.ReadTx) error { return fn(&countedTx{tx, db}) })
}

type countedTx struct {
	backend.ReadTx
	db *countedDB
}

func (tx *countedTx) Watch(key backend.Key) backend.Watch {
	tx.db.watches.Add(1)
	return tx.ReadTx.Watch(key)
}

// Whatever changes a server is on its page, without a request.
func TestAServersPageFollowsIt(t *testing.T) {
	t.Parallel()
	db := program(t)
	s := serve(t, db, console.Options{Authorize: as(operator)})
	h, ref := orders.At(db, "4711"), refOf(t, "order/4711")
	seen := s.look("server/order/4711")
	seen.until("head", "nothing is stored")
	must(t, h.Cast(t.Context(), add{"tea"}))
	seen.until("state", "tea")
	seen.until("timers", "remind")
	must(t, h.Cast(t.Context(), charge{7}))
	seen.until("dead", "too-much")
	must(t, h.Cast(t.Context(), coupon{"SPRING"}))
	seen.until("queue", "SPRING")
	seen.until("head", "no such coupon")
	must(t, ref.At(db).Pause(dserver.WithActor(t.Context(), "eve")))
	seen.until("head", "paused by eve")
	seen.until("acts", "Pause")
	message := s.look("server/order/4711/message/" + nextOf(t, db, "order/4711").Stamp.String())
	message.until("all", "no such coupon: SPRING")
	overview := s.look("")
	overview.until("troubles", "order/4711")
	overview.until("tiles", "tile alert")
	must(t, h.Kill(t.Context()))
	seen.until("head", "nothing is stored")
	message.until("all", "It was handled, deleted or discarded")
	overview.until("troubles", "Nothing needs you.")
	list := s.look("type/order")
	list.until("list", "There are no servers")
	must(t, h.Cast(t.Context(), add{"tea"}))
	list.until("list", "4711")
}

// However many browsers look at a page, the store is read for one of them, and when they have gone, it is not read.
func TestAnyNumberOfBrowsersIsOneReader(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "trouble", "type/order", "server/order/4711"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			db := &countedDB{Database: program(t)}
			must(t, orders.At(db, "4711").Call(t.Context(), add{"tea"}, nil))
			before := db.reads.Load()
			serve(t, db, console.Options{}).get(path)
			one := db.reads.Load() - before
			const loads = 10 // in two seconds, at the pace of a server's page; a watch that fires reads once more
			if many := readsFor(t, serve(t, db, console.Options{}), db, path, 40); many == 0 || many > loads*(one+1) {
				t.Errorf("40 browsers are %d reads in two seconds, and a page is %d", many, one)
			}
		})
	}
}

// readsFor is how often the store is read in two seconds in which some browsers show a page. When they have gone, it is not.
func readsFor(t *testing.T, s *site, db *countedDB, path string, browsers int) int64 {
	t.Helper()
	var looking sync.WaitGroup
	var all []*stream
	start := db.reads.Load()
	for range browsers {
		b := s.look(path)
		all = append(all, b)
		looking.Go(func() {
			for b.next() {
			}
		})
	}
	<-time.After(2 * time.Second)
	n := db.reads.Load() - start
	for _, b := range all {
		b.leave()
	}
	looking.Wait()
	eventually(t, "nobody looks, and nothing is read", func() bool {
		before, watches := db.reads.Load(), db.watches.Load()
		<-time.After(1200 * time.Millisecond)
		return db.reads.Load() == before && db.watches.Load() == watches
	})
	return n
}

// What a load costs bounds how often it is made: a store that takes long is not kept busy by who looks.
func TestASlowStoreIsAskedLessOften(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "server/order/1"} {
		db := &slowDB{Database: program(t)}
		s := serve(t, db, console.Options{})
		seen := s.look(path)
		seen.next()
		began, spent := time.Now(), db.spent.Load()
		<-time.After(3 * time.Second)
		if part := float64(db.spent.Load()-spent) / float64(time.Since(began)); part > 0.22 {
			t.Errorf("%q: for %.0f %% of the time the store is busy with who looks", path, 100*part)
		}
		seen.leave()
	}
}

// slowDB takes its time.
type slowDB struct {
	backend.Database
	spent atomic.Int64
}

func (db *slowDB) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	began := time.Now()
	defer func() { db.spent.Add(int64(time.Since(began))) }()
	select {
	case <-time.After(50 * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	return db.Database.Read(ctx, fn)
}

// Streams have no end of their own: they end with the context of the console, so that a server's Shutdown returns.
func TestStreamsEndWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, program(t), console.Options{Context: ctx, History: true})
	streams := []*stream{s.look(""), s.look("server/order/1"), s.look("trouble")}
	for _, b := range streams {
		b.next()
	}
	cancel()
	for _, b := range streams {
		for b.next() {
		}
		if err := b.events.Err(); err != nil {
			t.Errorf("a stream ended by %v", err)
		}
	}
}

// A store that does not answer is told of, and shown again when it does.
func TestAStoreThatFailsIsToldOf(t *testing.T) {
	t.Parallel()
	db := &failingDB{Database: program(t)}
	s := serve(t, db, console.Options{})
	seen := s.look("server/order/1")
	seen.until("head", "nothing is stored")
	db.fails.Store(true)
	seen.until("failed", "the disk is on fire")
	if a := s.ask(http.MethodGet, "server/order/1", nil, nil); a.status != http.StatusInternalServerError {
		t.Errorf("it is %d", a.status)
	}
	db.fails.Store(false)
	for seen.shown["failed"] != "" {
		if !seen.next() {
			t.Fatal("the stream has ended")
		}
	}
}

type failingDB struct {
	backend.Database
	fails atomic.Bool
}

func (db *failingDB) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	if db.fails.Load() {
		return errFire
	}
	return db.Database.Read(ctx, fn)
}
