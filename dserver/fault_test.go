package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// host is a process of a scenario that runs a consumer, and starts again when it died.
type host struct {
	t       *testing.T
	f       *backendtest.Fault
	mu      sync.Mutex
	current backend.Database
	actions map[string]int // what AfterCommit functions did, by line
}

// eachFault runs a scenario in a bubble for each fault. At its end what is stored is checked.
func eachFault(t *testing.T, scenario func(h *host)) {
	t.Helper()
	t.Parallel()
	backendtest.EachFault(t, func(t *testing.T, f *backendtest.Fault) {
		synctest.Test(t, func(t *testing.T) {
			h := &host{t: t, f: f, actions: map[string]int{}}
			h.current = f.Open()
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() { h.serve(ctx) })
			synctest.Wait() // the consumer is there
			scenario(h)
			cancel()
			wg.Wait()
			check(t, f.Open(), journals)
		})
	})
}

func (h *host) serve(ctx context.Context) {
	types := journals.With(dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Mark) error {
		j.write(m.Line)
		ctx.AfterCommit(func() { h.act(m.Line) })
		return nil
	}))
	for ctx.Err() == nil {
		if err := dserver.Run(ctx, h.db(), types); err != nil && !errors.Is(err, backend.ErrClosed) {
			h.t.Errorf("%v: Run: %v", h.f, err)
		}
		h.mu.Lock()
		h.current = h.f.Open()
		h.mu.Unlock()
	}
}

// Mark is a cast with an action after its commit.
type Mark struct{ Line string }

func (h *host) act(line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.actions[line]++
}

func (h *host) acted(line string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.actions[line]
}

func (h *host) db() backend.Database {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current
}

// user sends to one server as the user of a library without keys against repetition does: what was not sent is sent
// again, what is unknown is not.
type user struct {
	*host
	remote  backend.Database // nil: in the consumer's process
	acked   []string         // in their order
	unknown map[string]bool
}

func (h *host) beside() *user { return &user{host: h, unknown: map[string]bool{}} }
func (h *host) apart() *user  { return &user{host: h, unknown: map[string]bool{}, remote: h.f.Open()} }

func (u *user) server() *dserver.DServer[Journal] {
	if u.remote != nil {
		return journal.At(u.remote, "a")
	}
	return journal.At(u.db(), "a")
}

// send calls fn until it is known or unknown what became of it, and returns its last error.
func (u *user) send(fn func(ctx context.Context, s *dserver.DServer[Journal]) error, sent ...string) error {
	u.t.Helper()
	for {
		ctx, cancel := context.WithTimeout(u.f.Context(), time.Hour)
		err := fn(ctx, u.server())
		late := ctx.Err() == context.DeadlineExceeded
		cancel()
		var refused *dserver.Error
		switch {
		case late:
			u.t.Fatalf("%v: nobody answered %q: %v", u.f, sent, err)
		case err == nil || errors.As(err, &refused):
			u.acked = append(u.acked, sent...)
			return err
		case errors.Is(err, backend.ErrCommitUnknown):
			if wasNotSent(err) {
				u.t.Errorf("%v: it is unknown, and says otherwise: %v", u.f, err)
			}
			for _, line := range sent {
				u.unknown[line] = true
			}
			u.restart()
			return err
		case errors.Is(err, context.Canceled), errors.Is(err, backend.ErrClosed):
			u.restart()
			if !wasNotSent(err) {
				for _, line := range sent {
					u.unknown[line] = true
				}
				return err
			}
		default:
			u.t.Fatalf("%v: send %q: %v", u.f, sent, err)
		}
	}
}

// wasNotSent reports whether a call whose context or process ended knows that it did nothing.
func wasNotSent(err error) bool {
	return strings.Contains(err.Error(), "not sent") || strings.Contains(err.Error(), "nothing was sent")
}

func (u *user) restart() {
	if u.remote != nil && u.f.Crashed() {
		u.remote = u.f.Open()
	}
	<-time.After(time.Second) // a consumer that died starts again meanwhile
}

func (u *user) cast(line string) error {
	return u.send(func(ctx context.Context, s *dserver.DServer[Journal]) error { return s.Cast(ctx, Write{line}) }, line)
}

func (u *user) mark(line string) error {
	return u.send(func(ctx context.Context, s *dserver.DServer[Journal]) error { return s.Cast(ctx, Mark{line}) }, line)
}

func (u *user) call(line string) error {
	return u.send(func(ctx context.Context, s *dserver.DServer[Journal]) error {
		n, err := dserver.Call(ctx, s, Append{Line: line})
		if err == nil && n < 1 {
			u.t.Errorf("%v: the answer is %d", u.f, n)
		}
		return err
	}, line)
}

func (u *user) castAll(lines ...string) error {
	return u.send(func(ctx context.Context, s *dserver.DServer[Journal]) error {
		ms := make([]any, len(lines))
		for i, line := range lines {
			ms[i] = Write{line}
		}
		return s.CastAll(ctx, ms)
	}, lines...)
}

// lines reads the journal through its queue.
func (u *user) lines() (l []string) {
	u.t.Helper()
	for {
		err := u.send(func(ctx context.Context, s *dserver.DServer[Journal]) (err error) {
			l, err = dserver.Call(ctx, s, Lines{})
			return err
		})
		if err == nil {
			return l
		}
	}
}

// verify checks the one promise: what was acknowledged happened once, in its order; what is unknown happened once or
// not at all; nothing else happened.
func (u *user) verify() {
	u.t.Helper()
	<-time.After(time.Minute) // what is unknown has its chance to come too late
	got := u.lines()
	verify(u.t, fmt.Sprint(u.f), got, u.acked, u.unknown)
	if state, err := u.server().State(context.Background()); err != nil || !slices.Equal(state.Lines, got) {
		u.t.Errorf("%v: the state has %q, the answer was %q, %v", u.f, state.Lines, got, err)
	}
}

func verify(t testing.TB, at string, got, acked []string, unknown map[string]bool) {
	t.Helper()
	seen := map[string]int{}
	var known []string
	for _, line := range got {
		seen[line]++
		if !unknown[line] {
			known = append(known, line)
		}
		if seen[line] > 1 {
			t.Errorf("%s: %q happened %d times", at, line, seen[line])
		}
	}
	if !slices.Equal(known, acked) {
		t.Errorf("%s: acknowledged %q, unknown %v; happened %q", at, acked, unknown, got)
	}
}

// doubtful reports whether the fault leaves somebody without an answer.
func (h *host) doubtful() bool { return h.f.Crashed() || strings.Contains(h.f.String(), "unknown") }
