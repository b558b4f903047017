package dserver_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Arm sets a timer with the options that the definition has for it.
type Arm struct {
	dserver.Returns[int]
	Name, Opts string
	In         time.Duration
}

// arming are journals that set timers. A timer's message writes the timer's name.
var arming = journals.With(dserver.HandleCall(func(ctx *dserver.Context, j *Journal, m Arm) (int, error) {
	ctx.SetTimer(m.Name, m.In, Write{m.Name}, map[string][]dserver.Option{
		"":              nil,
		"priority":      {dserver.Priority()},
		"after":         {dserver.After(time.Second)},
		"once":          {dserver.Once("key")},
		"priority once": {dserver.Priority(), dserver.Once("key")},
		"empty key":     {dserver.Once("")},
		"nil":           {nil},
	}[m.Opts]...)
	j.write("armed " + m.Name)
	return len(j.Lines), nil
}))

// An option that makes no sense with a timer is an error of the handler that says what to do, and nothing comes of it.
func TestTimerTakesNoOptionButPriority(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		start(t, open(), arming)
		for opts, want := range map[string]string{
			"after":         "SetTimer with After: give SetTimer the time",
			"once":          "SetTimer with Once: a timer fires once",
			"priority once": "for a key, Cast with After and Once",
			"empty key":     "Once needs a key",
			"nil":           "a nil option",
		} {
			s := arming.At(db, opts)
			if _, err := dserver.Call(ctx, s, Arm{Name: "t", Opts: opts}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", opts, err)
			}
			if n := rows(t, db, "s", "journal", opts, "t") + rows(t, db, "s", "journal", opts, "s"); n != 0 {
				t.Errorf("%s: %d rows are left of it", opts, n)
			}
		}
	})
}

// A timer's message waits for the lock as any other, and with Priority it does not. The options of a timer are those of
// its last setting.
func TestTimerWithPriorityComesPastTheLock(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx := within(t)
		working, goOn := make(chan struct{}), make(chan struct{})
		def := arming.With(dserver.HandleLocked(
			func(*dserver.LockedContext, Journal, Guarded) (int, error) {
				close(working)
				<-goOn
				return 0, nil
			},
			func(_ *dserver.Context, j *Journal, m Guarded, _ int) error { j.write(m.Line); return nil }))
		for range 2 {
			start(t, open(), def)
		}
		db := open()
		s := def.At(db, "a")
		for _, m := range []Arm{
			{Name: "plain", In: 20 * time.Millisecond}, {Name: "urgent", In: time.Hour},
			{Name: "urgent", In: 20 * time.Millisecond, Opts: "priority"}, {Name: "again", In: time.Hour, Opts: "priority"},
		} {
			must(t, s.Call(ctx, m, nil))
		}
		must(t, s.Cast(ctx, Guarded{"worked"}))
		<-working
		must(t, s.Call(ctx, Arm{Name: "again", In: time.Millisecond}, nil, dserver.Priority()))
		eventually(t, "all three came", func() bool {
			state, err := s.State(ctx)
			return err == nil && state.Seen["urgent"] > 0 && statusOf(t, s).Queued+int64(state.Seen["plain"]) == 2
		})
		state, err := s.State(ctx)
		must(t, err)
		if fmt.Sprint(state.Seen["urgent"], state.Seen["again"]) != "1 0" {
			t.Errorf("under the lock came %v", state.Seen)
		}
		close(goOn)
		seen := lines(t, s)
		for _, line := range []string{"plain", "urgent", "again", "worked"} {
			if n := strings.Count(strings.Join(seen, ",")+",", ","+line+","); n != 1 {
				t.Errorf("%s came %d times: %q", line, n, seen)
			}
		}
	})
}

// Silent is a message that only the sender's program knows.
type Silent struct{}

// What a timer has sent is seen on its lane, ahead of what is not urgent.
func TestMessageOfATimerIsSeenOnItsLane(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		setting := journals.With(dserver.HandleCall(func(ctx *dserver.Context, _ *Journal, _ Arm) (int, error) {
			ctx.SetTimer("plain", time.Millisecond, Silent{})
			ctx.SetTimer("urgent", time.Millisecond, Silent{}, dserver.Priority())
			return 0, nil
		}))
		stop := run(t, dserver.Consumer{}, open(), setting)
		s := arming.At(db, "a")
		must(t, s.Call(ctx, Arm{}, nil))
		stop()
		start(t, open(), arming) // it moves what is due, and has no handler for it
		var seen []bool
		eventually(t, "both are queued", func() bool {
			seen = nil
			for q, err := range s.Queue(ctx) {
				must(t, err)
				seen = append(seen, q.Priority)
			}
			return len(seen) == 2
		})
		if !seen[0] || seen[1] {
			t.Errorf("of priority are %v", seen)
		}
	})
}

// A timer of the normal lane is stored as it always was: then what older versions stored is read as one, and they read
// what this one stores.
func TestTimerWithoutOptionsIsStoredAsBefore(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		start(t, db, arming)
		for _, opts := range []string{"", "priority"} {
			must(t, arming.At(db, "a").Call(ctx, Arm{Name: "t" + opts, Opts: opts, In: time.Hour}, nil))
			var record []byte
			must(t, db.Read(context.Background(), func(tx backend.ReadTx) (err error) {
				record, err = tx.Get(backend.NewKey("s", "journal", "a", "t", "t"+opts)).Get()
				return err
			}))
			if record == nil || bytes.Contains(record, []byte("priority")) != (opts != "") || record[0] != 0xa3+byte(len(opts)/8) {
				t.Errorf("with %q it is stored as %q", opts, record)
			}
		}
	})
}
