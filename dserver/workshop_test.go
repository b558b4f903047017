package dserver_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// workshop is a consumer's locked work, in the hands of a test: it waits until the test says what it finds, or until
// its context ends.
type workshop struct {
	types   *dserver.Definition[Safe]
	entered chan attempt
	find    chan string
	ended   chan attempt
}

// attempt is one run of locked work.
type attempt struct {
	key    string
	number int
	lost   bool // its context ended
}

func newWorkshop() *workshop {
	w := &workshop{entered: make(chan attempt, 10), find: make(chan string), ended: make(chan attempt, 10)}
	w.types = safes(w.toil)
	return w
}

func (w *workshop) toil(ctx *dserver.LockedContext, _ Safe, _ Toil) (found string, err error) {
	a := attempt{ctx.IdempotencyKey(), ctx.Attempt(), false}
	w.entered <- a
	select {
	case found = <-w.find:
	case <-ctx.Done():
		a.lost, err = true, ctx.Err()
	}
	w.ended <- a
	return found, err
}

// finish lets work find something, unless its context has ended before.
func (w *workshop) finish(found string) {
	select {
	case w.find <- found:
	case <-w.ended:
	}
}

// toil calls for locked work, and waits until w is in it. The answer comes as text.
func toil(s *dserver.DServer[Safe], w *workshop) (answer chan string) {
	answer = make(chan string, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		got, err := dserver.Call(ctx, s, Toil{ID: "toil"})
		answer <- fmt.Sprint(got, err)
	}()
	<-w.entered
	return answer
}

// frozenDB is the handle of a process that can be stopped, as by SIGSTOP: then no call of its returns, whatever its
// context says, and its clock seems to stand still.
type frozenDB struct {
	backend.Database
	mu sync.Mutex
	on chan struct{} // nil: it runs; else it is closed when it goes on
}

func (d *frozenDB) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.on = make(chan struct{})
}

func (d *frozenDB) goOn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.on)
	d.on = nil
}

func (d *frozenDB) pass() {
	d.mu.Lock()
	on := d.on
	d.mu.Unlock()
	if on != nil {
		<-on
	}
}

func (d *frozenDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	d.pass()
	return d.Database.Transact(context.WithoutCancel(ctx), fn)
}

func (d *frozenDB) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	d.pass()
	return d.Database.Read(ctx, fn)
}

// stopNow ends a consumer of a handle as the end of its process does.
func stopNow(t testing.TB, db backend.Database, stop func()) {
	t.Helper()
	must(t, db.Close())
	stop()
}
