package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/statediff"
)

// Cold starts: a process begins on a store that others have filled, and remembers nothing of its servers.
const (
	coldServers = 10_000
	coldCallers = 256
	pageBytes   = 1000 // of an entry of an archive
	pagesSmall  = 1_000
	pagesLarge  = 100_000
	fillPages   = 1_000 // that one message adds
)

// archive is a state of which a turn reads what it touches, and folder the same as a plain map, of which it reads all.
type (
	archive struct {
		Pages statediff.Map[string, string]
	}
	folder struct{ Pages map[string]string }
)

var archives = dserver.Define("archive",
	dserver.HandleCast(func(_ *dserver.Context, a *archive, m fill) error {
		for i := m.From; i < m.To; i++ {
			a.Pages.Set(key(i), coldPage())
		}
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, a *archive, m touch) (int, error) {
		a.Pages.Set(m.Key, m.Text)
		return a.Pages.Len(), nil
	}),
)

var folders = dserver.Define("folder",
	dserver.HandleCast(func(_ *dserver.Context, f *folder, m fill) error {
		for i := m.From; i < m.To; i++ {
			f.Pages[key(i)] = coldPage()
		}
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, f *folder, m touch) (int, error) {
		f.Pages[m.Key] = m.Text
		return len(f.Pages), nil
	}),
)

func coldPage() string { return strings.Repeat("x", pageBytes) }

// start is what a process met that had just begun.
type start struct {
	Open, First, Second time.Duration // the database; a call of one server; another one of it
	All, Again          time.Duration // calls of all servers, and once more
	P99                 time.Duration // of the first calls of all
	Large               map[string][2]time.Duration
}

// large are the servers with much state.
var large = []struct {
	name string
	typ  dserver.Type
	size int
}{
	{"statediff.Map, 1 MB", archives, pagesSmall},
	{"statediff.Map, 100 MB", archives, pagesLarge},
	{"plain map, 1 MB", folders, pagesSmall},
}

func (s start) print(w io.Writer) {
	const layout = "  %-46s %12s %12s\n"
	fmt.Fprint(w, "\nA process that begins on a store that others have filled\n")
	fmt.Fprintf(w, layout, "", "first ms", "again ms")
	fmt.Fprintf(w, layout, "open the database", millis(s.Open), "")
	fmt.Fprintf(w, layout, "start a consumer and call one server", millis(s.First), millis(s.Second))
	fmt.Fprintf(w, layout, fmt.Sprintf("call %s servers, %d callers, in all", thousands(coldServers), coldCallers), millis(s.All), millis(s.Again))
	fmt.Fprintf(w, layout, "  p99 of a call", millis(s.P99), "")
	for _, l := range large {
		fmt.Fprintf(w, layout, "call a server of "+l.name, millis(s.Large[l.name][0]), millis(s.Large[l.name][1]))
	}
}

// cold measures a process of its own, on a file that another has filled.
var cold = section{"cold", func(ctx context.Context, dir string, _ options, w io.Writer) ([]promise, error) {
	own, err := os.MkdirTemp(dir, "cold")
	if err != nil {
		return nil, err
	}
	if err := fillCold(ctx, file(own)); err != nil {
		return nil, fmt.Errorf("cold: %w", err)
	}
	var got start
	if err := apartOn(ctx, file(own), roleCold, &got); err != nil {
		return nil, err
	}
	got.print(w)
	return nil, nil
}}

func fillCold(ctx context.Context, path string) (err error) {
	db, err := sqlite.Open(path)
	if err != nil {
		return err
	}
	stop := consume(ctx, db, counters, archives, folders)
	defer func() { err = errors.Join(err, stop(), db.Close()) }()
	if _, err := callAllCold(ctx, db); err != nil {
		return err
	}
	for _, l := range large {
		srv := dserver.Ref{Type: l.typ.Name(), ID: l.name}.At(db)
		for from := 0; from < l.size; from += fillPages {
			if err := srv.Call(ctx, fill{from, from + fillPages}, nil); err != nil { // one turn each
				return err
			}
		}
	}
	return nil
}

// callAllCold calls each of the servers once.
func callAllCold(ctx context.Context, db backend.Database) (times histogram, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var ended sync.WaitGroup
	for caller := range coldCallers {
		ended.Go(func() {
			var mine histogram
			for i := caller; i < coldServers && ctx.Err() == nil; i += coldCallers {
				began := time.Now()
				if _, err := dserver.Call(ctx, counters.At(db, "cold-"+strconv.Itoa(i)), increment{}); err != nil {
					cancel(err)
				}
				mine.record(time.Since(began))
			}
			mu.Lock()
			defer mu.Unlock()
			times.add(&mine)
		})
	}
	ended.Wait()
	return times, context.Cause(ctx)
}

// beCold is the process that is measured.
func beCold(ctx context.Context, path string) error {
	var s start
	began := time.Now()
	db, err := sqlite.Open(path)
	if err != nil {
		return err
	}
	defer db.Close()
	s.Open = time.Since(began)
	took := func(call func() error) (d time.Duration) {
		began := time.Now()
		err = errors.Join(err, call())
		return time.Since(began)
	}
	one := func() error {
		_, err := dserver.Call(ctx, counters.At(db, "cold-0"), increment{})
		return err
	}
	var stop func() error
	s.First = took(func() error {
		stop = consume(ctx, db, counters, archives, folders)
		return one()
	})
	s.Second = took(one)
	s.Large = map[string][2]time.Duration{}
	for _, l := range large {
		touch := func() error {
			var n int
			err := dserver.Ref{Type: l.typ.Name(), ID: l.name}.At(db).Call(ctx, touch{Key: key(rand.IntN(l.size)), Text: coldPage()}, &n)
			return errors.Join(err, expect(n, l.size))
		}
		s.Large[l.name] = [2]time.Duration{took(touch), took(touch)}
	}
	all := func() error {
		times, err := callAllCold(ctx, db)
		if s.P99 == 0 {
			s.P99 = times.percentile(99)
		}
		return err
	}
	s.All, s.Again = took(all), took(all)
	if err := errors.Join(err, stop()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}
