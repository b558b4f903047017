package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/sqlite"
)

// putProcess writes what a process tells of itself.
func putProcess(t *testing.T, db backend.Database, id string, record any) {
	t.Helper()
	body, err := cbor.Marshal(record)
	must(t, err)
	must(t, db.Transact(t.Context(), func(tx backend.Tx) error {
		tx.Set(backend.NewKey("p", id, "r"), body)
		return nil
	}))
}

var anAge = regexp.MustCompile(`1m[1-5]\ds ago`)

func TestGoldenConsumers(t *testing.T) {
	dir := t.TempDir()
	db, err := sqlite.Open(filepath.Join(dir, "app.db"), sqlite.Relaxed())
	must(t, err)
	defer db.Close()
	var transcript strings.Builder
	show := func(args ...string) {
		stdout, stderr, code := dserverTool(t, dir, append([]string{"--db", "app.db"}, args...)...)
		fmt.Fprintf(&transcript, "$ dserver --db app.db %s\n%s%s", shellWords(args), stdout, stderr)
		if code != 0 {
			t.Errorf("%v: exit code %d", args, code)
		}
		transcript.WriteString("\n")
	}
	putProcess(t, db, "SENDER", map[string]any{"host": "web-1", "pid": 7, "beat": time.Now().UnixMilli()})
	show("consumers")
	since, beat := time.Date(2026, 3, 1, 12, 0, 0, 5e6, time.UTC).UnixMilli(), time.Now().Add(-70*time.Second).UnixMilli()
	putProcess(t, db, "NEWER", map[string]any{
		"host": "worker-2", "pid": 4711, "beat": beat, "consumes": true, "types": []string{"cart", "counter"},
		"since": since, "version": "v1.2.0", "turns": 12, "waiting": 3, "work": 1,
	})
	putProcess(t, db, "IDLE", map[string]any{
		"host": "worker-10", "pid": 23, "beat": beat, "consumes": true, "types": []string{"a, b", `c"`}, "since": since, "labels": []string{"", "eu", "a,b"},
		"version": "(devel) 0123456789ab+dirty",
	})
	putProcess(t, db, "OLDER", map[string]any{"host": "worker-2", "pid": 81, "beat": beat, "consumes": true})
	putProcess(t, db, "DAMAGED", "no record")
	putProcess(t, db, "HOSTILE", map[string]any{
		"host": "\x1b[2Jhost\n", "pid": -1, "beat": beat, "consumes": true, "types": []string{"\u202egnp"}, "since": since, "version": "v\t1\x07",
	})
	show("consumers")
	show("consumers", "--json")
	out := anAge.ReplaceAllString(transcript.String(), "1m10s ago")
	golden(t, "consumers", regexp.MustCompile(`"beat":"[^"]*"`).ReplaceAllString(out, `"beat":"2026-01-02T03:04:05.678Z"`))
}

// A process of the application is listed, with what is true of it.
func TestConsumersOfALiveApplication(t *testing.T) {
	dir, _ := start(t)
	var p presence
	eventually(t, "it is listed", func() bool {
		stdout, _, code := dserverTool(t, dir, "--db", "app.db", "consumers", "--json")
		return code == exitDone && stdout != "" && json.Unmarshal([]byte(stdout), &p) == nil
	})
	host, err := os.Hostname()
	must(t, err)
	if p.Host != host || p.PID != os.Getpid() || strings.Join(p.Types, " ") != "cart counter order" || p.InHand == nil || p.Version == "" ||
		time.Since(p.Since) > time.Hour || time.Since(p.Beat) > time.Hour {
		t.Errorf("%+v", p)
	}
}

// A beat of the future says what it means.
func TestAgesOfBeats(t *testing.T) {
	for ahead, want := range map[time.Duration]string{
		-3 * time.Second: "3s ago", 0: "0s ago", 100 * time.Millisecond: "0s ago", time.Minute: "in 1m0s: clocks differ",
	} {
		if got := age(time.Now().Add(ahead)); got != want {
			t.Errorf("a beat %v ahead was %s, want %s", ahead, got, want)
		}
	}
}
