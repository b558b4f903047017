package dserver_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

type (
	gaugeOld  struct{ N int }
	gaugeNew  struct{ N string }
	setGauge  struct{ N int }
	readGauge struct{ dserver.Returns[string] }
)

func oldGauges() *dserver.Definition[gaugeOld] {
	return dserver.Define("gauge", dserver.HandleCast(func(_ *dserver.Context, g *gaugeOld, m setGauge) error {
		g.N += m.N
		return nil
	}))
}

// newGauges have another type of field, and perhaps an Upgrade.
func newGauges(parts ...dserver.Part[gaugeNew]) *dserver.Definition[gaugeNew] {
	return dserver.Define("gauge", append(parts,
		dserver.HandleCast(func(_ *dserver.Context, g *gaugeNew, m setGauge) error {
			g.N += strings.Repeat("+", m.N)
			return nil
		}),
		dserver.HandleCall(func(_ *dserver.Context, g *gaugeNew, _ readGauge) (string, error) { return g.N, nil }))...)
}

func upgradeGauges(fn func(gaugeOld, *gaugeNew) error) dserver.Part[gaugeNew] {
	return dserver.Upgrade(1, fn)
}

// logLines is a log that counts.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// A program that cannot read a state says so to whoever asks, and leaves all as it is for one that can.
func TestStateThatAProgramCannotReadIsNoDamage(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		for id, c := range map[string]struct {
			types *dserver.Definition[gaugeNew]
			says  []string
		}{
			"type":   {newGauges(), []string{"N", "string", "Upgrade[Old](1, ...)", "Define at"}},
			"panic":  {newGauges(upgradeGauges(func(gaugeOld, *gaugeNew) error { panic("oh") })), []string{"version 1", "panic: oh", "mend it (at "}},
			"error":  {newGauges(upgradeGauges(func(gaugeOld, *gaugeNew) error { return errors.New("ah") })), []string{"version 1", "ah"}},
			"absent": {newGauges(dserver.Upgrade(2, func(gaugeOld, *gaugeNew) error { return nil })), []string{"version 1", "Upgrade[Old](1, ...)"}},
		} {
			unreadable(t, open, id, c.types, c.says)
		}
	})
}

func unreadable(t *testing.T, open func() backend.Database, id string, types *dserver.Definition[gaugeNew], says []string) {
	t.Helper()
	db, ctx := open(), within(t)
	old := oldGauges()
	stop := run(t, dserver.Consumer{}, db, old)
	must(t, old.At(db, id).Cast(ctx, setGauge{2}))
	eventually(t, "the old state is there", func() bool {
		s, err := old.At(db, id).State(ctx)
		return err == nil && s.N == 2
	})
	stop()

	log, other := new(logLines), open()
	stop = run(t, dserver.Consumer{Logger: zerolog.New(log)}, db, types)
	gauge := types.At(db, id)
	eventually(t, "the consumer takes calls", func() bool { // those before are queued, and wait
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		return errors.Is(gauge.Call(short, readGauge{}, nil), dserver.ErrState)
	})
	for name, ask := range map[string]func() error{
		"call":  func() error { _, err := dserver.Call(ctx, gauge, readGauge{}); return err },
		"query": func() error { _, err := dserver.Query(ctx, types.At(other, id), readGauge{}); return err },
		"state": func() error { _, err := types.At(other, id).State(ctx); return err },
		"check": func() error { return dserver.Check(ctx, other, types) },
	} {
		err := ask()
		if !errors.Is(err, dserver.ErrState) || errors.Is(err, backend.ErrCorrupt) {
			t.Errorf("%s, %s: %v", id, name, err)
			continue
		}
		for _, part := range append(says, "gauge/"+id) {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s, %s: %q is not in %v", id, name, part, err)
			}
		}
	}
	must(t, types.At(other, id).Cast(ctx, setGauge{1}))
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := old.At(other, id).Call(short, setGauge{1}, nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), says[0]) {
		t.Errorf("%s: a call of another process: %v", id, err)
	}
	eventually(t, "the status tells", func() bool {
		s, err := types.At(other, id).Status(ctx)
		return err == nil && s.Queued >= 2 && s.DeadLetters == 0 && s.Attempts == 0 && strings.Contains(s.Unreadable, says[0])
	})
	if n := log.count(`"server":"gauge/` + id + `"`); n != 1 { // those of other cases may wait as well
		t.Errorf("%s: %d lines", id, n)
	}
	stop()

	stop = run(t, dserver.Consumer{}, other, newGauges(upgradeGauges(func(o gaugeOld, g *gaugeNew) error {
		g.N = strings.Repeat("-", o.N)
		return nil
	})))
	defer stop()
	if id == "absent" {
		return // its version is 3
	}
	eventually(t, "the mended program goes on", func() bool {
		st, err := old.At(other, id).Status(ctx)
		return err == nil && st.Queued == 0 && st.Unreadable == "" && st.Version == 2
	})
}

// It is tried again at longer and longer intervals, and told of rarely.
func TestStateThatCannotBeReadIsNoStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := backendtest.NewStore()
		db := store.Open()
		ctx, cancel := context.WithCancel(context.Background())
		old := oldGauges()
		ran := make(chan error)
		go func() { ran <- dserver.Run(ctx, db, old) }()
		must(t, old.At(db, "g").Cast(ctx, setGauge{2}))
		<-time.After(time.Second)
		cancel()
		must(t, <-ran)

		ctx, cancel = context.WithCancel(context.Background())
		log, tries := new(logLines), 0
		fails := newGauges(upgradeGauges(func(gaugeOld, *gaugeNew) error { tries++; return errors.New("ah") }))
		go func() { ran <- dserver.Consumer{Logger: zerolog.New(log)}.Run(ctx, db, fails) }()
		must(t, fails.At(db, "g").Cast(ctx, setGauge{1}))
		<-time.After(time.Hour)
		if n := log.count("cannot be read by this program"); n < 2 || n > 13 {
			t.Errorf("%d lines in an hour", n)
		}
		if tries < 10 || tries > 30 {
			t.Errorf("%d tries in an hour", tries)
		}
		if s, err := fails.At(db, "g").Status(ctx); err != nil || s.Queued != 1 || s.DeadLetters != 0 {
			t.Errorf("%+v, %v", s, err)
		}
		cancel()
		must(t, <-ran)
		must(t, db.Close())
	})
}
