package main

import (
	"context"
	"sync"
)

// channels is a goroutine with a channel for each counter: what a Go program does that need not survive. It shows
// what the callers themselves cost.
var channels = entry{name: "goroutine + channel, in memory", open: openGoroutines}

type goroutines struct {
	inbox []chan ask
	ended sync.WaitGroup
}

// ask adds to a counter and is answered with its new value, unless nobody waits.
type ask struct {
	add    int64
	answer chan int64
}

// answers are kept, as a caller would keep its own.
var answers = sync.Pool{New: func() any { return make(chan int64, 1) }}

func openGoroutines(_ context.Context, _ string, n int) (contender, error) {
	g := &goroutines{inbox: make([]chan ask, n)}
	for i := range g.inbox {
		inbox := make(chan ask, 64)
		g.inbox[i] = inbox
		g.ended.Go(func() { count(inbox) })
	}
	return g, nil
}

func count(inbox <-chan ask) {
	var n int64
	for a := range inbox {
		n += a.add
		if a.answer != nil {
			a.answer <- n
		}
	}
}

func (g *goroutines) ask(counter int, add int64) int64 {
	answer := answers.Get().(chan int64)
	defer answers.Put(answer)
	g.inbox[counter] <- ask{add, answer}
	return <-answer
}

func (g *goroutines) increment(_ context.Context, counter int) error {
	g.ask(counter, 1)
	return nil
}

func (g *goroutines) cast(_ context.Context, counter int) error {
	g.inbox[counter] <- ask{add: 1}
	return nil
}

func (g *goroutines) value(_ context.Context, counter int) (int64, error) {
	return g.ask(counter, 0), nil
}

func (g *goroutines) close() error {
	for _, inbox := range g.inbox {
		close(inbox)
	}
	g.ended.Wait()
	return nil
}
