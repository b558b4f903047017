package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
)

// ledger counts messages that have an identity: the numbers of a sender, which sends 1, 2, 3 and so on and waits for
// each to be acknowledged. With each it increments the counter of the program, in the same commit.
type ledger struct {
	Senders map[string]account
}

type account struct {
	Count   int64   // how many messages took effect
	Last    int64   // the highest number
	Strange []int64 // numbers that did not follow the one before: doubled, lost or out of order
}

type (
	note struct {
		Sender string
		Number int64
	}
	ask struct {
		dserver.Returns[int64] // how many messages of this sender took effect
		Sender                 string
		Number                 int64
	}
	settle struct{ dserver.Returns[int] } // how many senders there are
)

const visits = "visits"

var ledgers = dserver.Define("ledger",
	dserver.HandleCast(func(ctx *dserver.Context, l *ledger, m note) error {
		l.record(ctx, m.Sender, m.Number)
		return nil
	}),
	dserver.HandleCall(func(ctx *dserver.Context, l *ledger, m ask) (int64, error) {
		return l.record(ctx, m.Sender, m.Number), nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, l *ledger, _ settle) (int, error) { return len(l.Senders), nil }),
)

func (l *ledger) record(ctx *dserver.Context, sender string, number int64) int64 {
	a := l.Senders[sender]
	if number != a.Last+1 {
		a.Strange = append(a.Strange, number)
	}
	a.Count++
	a.Last = max(a.Last, number)
	l.Senders[sender] = a
	ctx.Cast(Counters.Ref(visits), Increment{By: 1})
	return a.Count
}

// runChild is a child until ctx ends. It opens the file at path; its senders' names begin with name.
func runChild(ctx context.Context, out io.Writer, role, path, name string) error {
	db, err := open.Database(path)
	if err != nil {
		return err
	}
	defer db.Close()
	switch role {
	case roleConsumer:
		fmt.Fprintln(out, "consuming")
		return dserver.Run(ctx, db, Counters, ledgers)
	case roleSender:
		return sendAlways(ctx, db, name)
	}
	var consumer sync.WaitGroup
	defer consumer.Wait()
	consumer.Go(func() { _ = dserver.Run(ctx, db, Counters, ledgers) }) // this child is killed before it could fail
	return sendAlways(ctx, db, name)
}

// A child has several senders, and there are several ledgers.
const (
	sendersPerChild = 6
	ledgerCount     = 2
)

// sendAlways sends until ctx ends, and waits then for what was begun.
func sendAlways(ctx context.Context, db backend.Database, name string) error {
	var senders sync.WaitGroup
	var failed atomic.Value
	for i := range sendersPerChild {
		s := sender{name: name + "." + strconv.Itoa(i), to: ledgers.At(db, strconv.Itoa(i%ledgerCount))}
		senders.Go(func() {
			if err := s.send(ctx); err != nil {
				failed.Store(err)
			}
		})
	}
	senders.Wait()
	err, _ := failed.Load().(error)
	return err
}

type sender struct {
	name string
	to   *dserver.DServer[ledger]
}

// send prints "try NAME NUMBER" before each message and "ack NAME NUMBER" after it was acknowledged. The number is the
// last one of a batch. A line is one write, so a killed child leaves whole lines.
func (s sender) send(ctx context.Context) error {
	for number := int64(1); ctx.Err() == nil; {
		next, send := s.step(number)
		if err := s.say("try", next-1); err != nil {
			return err
		}
		waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		err := send(waiting)
		cancel()
		if err != nil {
			return fmt.Errorf("%s, message %d: %w", s.name, number, err)
		}
		if err := s.say("ack", next-1); err != nil {
			return err
		}
		number = next
	}
	return nil
}

func (s sender) say(what string, number int64) error {
	_, err := fmt.Fprintln(os.Stdout, what, s.name, number)
	return err
}

// step chooses how the message with this number is sent: of six numbers, three are cast at once, two are cast and one
// is a call.
func (s sender) step(number int64) (next int64, send func(context.Context) error) {
	switch number % 6 {
	case 1:
		batch := []any{note{s.name, number}, note{s.name, number + 1}, note{s.name, number + 2}}
		return number + 3, func(ctx context.Context) error { return s.to.CastAll(ctx, batch) }
	case 0:
		return number + 1, func(ctx context.Context) error {
			n, err := dserver.Call(ctx, s.to, ask{Sender: s.name, Number: number})
			if err == nil && n != number {
				err = fmt.Errorf("the answer is %d", n)
			}
			return err
		}
	}
	return number + 1, func(ctx context.Context) error { return s.to.Cast(ctx, note{s.name, number}) }
}
