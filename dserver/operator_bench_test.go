package dserver_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/queue"
)

func openOperatorBench(b *testing.B) backend.Database {
	db, err := sqlite.Open(filepath.Join(b.TempDir(), "bench.db"))
	must(b, err)
	b.Cleanup(func() { must(b, db.Close()) })
	return db
}

// BenchmarkServers lists 10,000 servers, of which each hundredth has a hundred messages.
func BenchmarkServers(b *testing.B) {
	db := openOperatorBench(b)
	const servers = 10_000
	for n := range servers {
		items := [][]byte{[]byte("message")}
		if n%100 == 0 {
			items = make([][]byte, 100)
		}
		push(b, db, ledgers.Ref(fmt.Sprint(n)), queue.Normal, items...)
	}
	for b.Loop() {
		n := 0
		for _, err := range dserver.Servers(context.Background(), db, "ledger") {
			must(b, err)
			n++
		}
		if n != servers {
			b.Fatalf("%d servers", n)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/servers, "ns/server")
}

// BenchmarkKill kills a server with 10,000 messages: one commit, and then the burial of a page of messages in each.
func BenchmarkKill(b *testing.B) {
	db := openOperatorBench(b)
	const messages = 10_000
	all := make([]any, messages)
	for i := range all {
		all[i] = Note{i}
	}
	s := ledgers.At(db, "x")
	for b.Loop() {
		b.StopTimer()
		must(b, s.CastAll(context.Background(), all))
		b.StartTimer()
		must(b, s.Kill(context.Background()))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/messages, "ns/message")
}
