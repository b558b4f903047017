package prom_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/telemetry/prom"
)

type (
	till   struct{ Cents int }
	pay    struct{ Cents int }
	sum    struct{ dserver.Returns[int] }
	refund struct{}
	smash  struct{}
	count  struct{}
)

var (
	errNoMoney = &dserver.Error{Code: "no-money", Text: "the till is empty"}
	counting   = make(chan struct{})
)

var tills = dserver.Define("till",
	dserver.Settings[till]{MaxAttempts: 3, BackOff: time.Millisecond, MaxBackOff: time.Millisecond},
	dserver.HandleCast(func(_ *dserver.Context, s *till, m pay) error { s.Cents += m.Cents; return nil }),
	dserver.HandleCall(func(_ *dserver.Context, s *till, _ sum) (int, error) { return s.Cents, nil }),
	dserver.HandleCast(func(*dserver.Context, *till, refund) error { return errNoMoney }),
	dserver.HandleCast(func(*dserver.Context, *till, smash) error { panic("glass") }),
	dserver.HandleLocked(
		func(*dserver.LockedContext, till, count) (int, error) { <-counting; return 0, nil },
		func(*dserver.Context, *till, count, int) error { return nil }),
)

var idle = dserver.Define("idle", dserver.HandleCast(func(*dserver.Context, *till, pay) error { return nil }))

// serve runs a program with metrics, and returns its database and the address of its metrics.
func serve(t testing.TB, store backend.Database, types ...dserver.Type) (backend.Database, string) {
	t.Helper()
	db, metrics, err := prom.Intercept(store)
	must(t, err)
	server := httptest.NewServer(metrics)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- dserver.Run(ctx, db, types...) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-ended)
	})
	return db, server.URL
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scrape reads metrics over HTTP: by name, summed over all label sets that have each of the labels.
type scrape []string

func scraped(t testing.TB, url string) (lines scrape) {
	t.Helper()
	response, err := http.Get(url)
	must(t, err)
	defer func() { must(t, response.Body.Close()) }()
	for s := bufio.NewScanner(response.Body); s.Scan(); {
		if line := s.Text(); !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	if response.StatusCode != http.StatusOK || len(lines) == 0 {
		t.Fatalf("status %d, %d lines", response.StatusCode, len(lines))
	}
	return lines
}

func (s scrape) value(t testing.TB, name string, labels ...string) (total float64) {
	t.Helper()
	for _, line := range s {
		at := strings.LastIndexByte(line, ' ')
		series, text := line[:at], line[at+1:]
		if of, _, _ := strings.Cut(series, "{"); of != name {
			continue
		}
		has := true
		for _, label := range labels {
			has = has && strings.Contains(series, label)
		}
		v, err := strconv.ParseFloat(text, 64)
		if must(t, err); has {
			total += v
		}
	}
	return total
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(2 * time.Minute); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// What is scraped over HTTP is what the program did, to the message.
func TestMetricsAreWhatTheProgramDid(t *testing.T) {
	store := backendtest.NewStore()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	// It waits for a type that runs here, and nobody handles it; before the program begins, as its queues are looked at rarely.
	address := dserver.Ref{Type: "idle", ID: "i"}.At(store.Open())
	for range 7 {
		must(t, address.Cast(ctx, dserver.Message{Name: "unknown", Body: []byte{0xa0}}))
	}
	began := time.Now()
	db, url := serve(t, store.Open(), tills, idle)
	far := tills.At(store.Open(), "far") // of another process, which is not measured
	const casts, calls = 20, 10
	for i := range casts {
		must(t, tills.At(db, fmt.Sprint("t", i%3)).Cast(ctx, pay{1}))
		must(t, far.Cast(ctx, pay{1}))
	}
	must(t, tills.At(db, "t0").CastAll(ctx, []any{pay{1}, pay{1}, pay{1}}))
	for range calls {
		_, err := dserver.Call(ctx, tills.At(db, "t0"), sum{})
		must(t, err)
	}
	must(t, far.Cast(ctx, refund{}))
	must(t, far.Cast(ctx, smash{}))
	if err := tills.At(db, "t1").Call(ctx, refund{}, nil); !errors.Is(err, errNoMoney) {
		t.Fatal(err)
	}
	must(t, far.Cast(ctx, count{}))

	const typ = `messaging_destination_name="till"`
	var s scrape
	eventually(t, "all is handled", func() bool {
		s = scraped(t, url)
		return s.value(t, "dserver_messages_handled_total", typ, `dserver_outcome="locked"`) == 1
	})
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"messaging_client_sent_messages_total", []string{`messaging_operation_name="cast"`}, casts},
		{"messaging_client_sent_messages_total", []string{`messaging_operation_name="cast_all"`}, 3},
		{"messaging_client_sent_messages_total", []string{`messaging_operation_name="call"`}, calls},
		{"messaging_client_operation_duration_seconds_count", []string{`messaging_operation_name="call"`}, calls + 1},
		{"dserver_messages_handled_total", []string{`dserver_outcome="ok"`}, 2*casts + 3 + calls},
		{"dserver_messages_handled_total", []string{`dserver_outcome="refused"`}, 2},
		{"dserver_messages_handled_total", []string{`dserver_outcome="faulted"`}, 2},
		{"dserver_messages_handled_total", []string{`dserver_outcome="dead"`}, 1},
		{"dserver_attempts_failed_total", nil, 3},
		{"dserver_dead_letters_added_total", nil, 2},
		{"dserver_messages_latency_seconds_count", nil, 2*casts + 3 + calls + 2 + 1},
		{"dserver_turns_batch_sum", nil, 2*casts + 3 + calls + 2 + 1},
		{"dserver_turns_errors_total", nil, 0},
		{"dserver_locks_taken_over_total", nil, 0},
	} {
		if got := s.value(t, c.name, append(c.labels, typ)...); got != c.want {
			t.Errorf("%s%v is %v, not %v", c.name, c.labels, got, c.want)
		}
	}
	turns := s.value(t, "dserver_turns_duration_seconds_count", typ)
	for _, name := range []string{"dserver_turns_commit_seconds_count", "dserver_cache_lookups_total"} {
		if got := s.value(t, name, typ); got != turns || turns == 0 {
			t.Errorf("%s is %v, of %v turns", name, got, turns)
		}
	}
	if took := s.value(t, "messaging_process_duration_seconds_sum", typ); took <= 0 || took > time.Since(began).Seconds() {
		t.Errorf("handlers took %v s", took)
	}
	for name, holds := range map[string]bool{
		"queued":     s.value(t, "dserver_queue_messages", `messaging_destination_name="idle"`) == 7,
		"oldest":     s.value(t, "dserver_queue_oldest_seconds", `messaging_destination_name="idle"`) > 0,
		"locks":      s.value(t, "dserver_locks_held") == 1,
		"lock age":   s.value(t, "dserver_locks_oldest_seconds") > 0,
		"cache size": s.value(t, "dserver_cache_size_bytes") > 0,
		"watches":    s.value(t, "dserver_watches") > 0,
	} {
		if !holds {
			t.Errorf("%s is wrong:\n%s", name, strings.Join(s, "\n"))
		}
	}
	close(counting)
}

// No id, no name of a message and no key is in a metric, however many there are, and types have a bound.
func TestMetricsHaveNoNamesWithoutBound(t *testing.T) {
	store := backendtest.NewStore().Open()
	db, url := serve(t, store, idle)
	ctx := t.Context()
	for i := range 300 {
		to := dserver.Ref{Type: fmt.Sprint("type", i), ID: "secret-id"}.At(db)
		must(t, to.Cast(ctx, dserver.Message{Name: "secret-name", Body: []byte{0xa0}}, dserver.Once("secret-key")))
	}
	s := scraped(t, url)
	types := map[string]bool{}
	for _, line := range s {
		if strings.Contains(line, "secret") {
			t.Errorf("a name without bound: %s", line)
		}
		if _, after, ok := strings.Cut(line, `messaging_destination_name="`); ok {
			typ, _, _ := strings.Cut(after, `"`)
			types[typ] = true
		}
	}
	if len(types) > 202 || !types["_other"] {
		t.Errorf("%d types", len(types))
	}
	if got := s.value(t, "messaging_client_sent_messages_total"); got != 300 {
		t.Errorf("%v were sent", got)
	}
}
