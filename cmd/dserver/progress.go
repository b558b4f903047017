package main

import (
	"fmt"
	"time"
)

// progress counts what a command does to several things, and tells of a long one on standard error how far it is.
type progress struct {
	out   printer
	every time.Duration
	told  time.Time
	done  int
}

// progressEvery is how often it is told.
const progressEvery = 2 * time.Second

func (t *tool) progress() *progress {
	every := t.every
	if every == 0 {
		every = progressEvery
	}
	return &progress{out: t.out, every: every, told: time.Now()}
}

// step counts one, of a server.
func (p *progress) step(at server) {
	p.done++
	if now := time.Now(); now.Sub(p.told) >= p.every {
		p.told = now
		fmt.Fprintf(p.out.errs, "dserver: %d done, now at %v\n", p.done, at)
	}
}

// failed says of an error where it was, and how much was done before it.
func (p *progress) failed(at server, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%v: %w; before it were done: %d", at, err, p.done)
}
