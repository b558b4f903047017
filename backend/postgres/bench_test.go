package postgres

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// What one would write by hand: an UPDATE for each increment, on a connection of its own.
func BenchmarkUpdateByHand(b *testing.B) {
	url := pgtest.URL(b)
	pgtest.Exec(b, url, "CREATE TABLE IF NOT EXISTS by_hand (id integer PRIMARY KEY, n bigint); "+
		"INSERT INTO by_hand VALUES (1, 0) ON CONFLICT DO NOTHING")
	ctx := context.Background()
	c, err := pgconn.Connect(ctx, url)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close(ctx)
	if _, err := c.Prepare(ctx, "up", "UPDATE by_hand SET n = n + 1 WHERE id = 1 RETURNING n", nil); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if r := c.ExecPrepared(ctx, "up", nil, nil, resultsBinary).Read(); r.Err != nil {
			b.Fatal(r.Err)
		}
	}
}

// The same on this package, blind, and as a turn does it: a snapshot of a range that is remembered, and a few writes.
func BenchmarkCommit(b *testing.B) {
	one := func(tx backend.Tx) error { tx.Set(backend.NewKey("n"), []byte("value")); return nil }
	turn := func(tx backend.Tx) error {
		_, err := tx.GetRange(backend.NewKey("s").Below(), backend.RangeOptions{Snapshot: true}).Get()
		tx.Conflict(backend.NewKey("s", "v"))
		tx.Set(backend.NewKey("s", "n"), []byte("value"))
		tx.Stamp(backend.NewKey("s", "v"))
		return err
	}
	push := func(tx backend.Tx) error {
		tx.Append(backend.NewKey("q"), []byte("value"))
		tx.Add(backend.NewKey("c"), 1)
		tx.Add(backend.NewKey("bell"), 1)
		return nil
	}
	for name, fn := range map[string]func(tx backend.Tx) error{"set": one, "turn": turn, "push": push} {
		b.Run(name, func(b *testing.B) {
			db := openTest(b, pgtest.Name(b))
			b.ReportAllocs()
			began := serverTime(db)
			for b.Loop() {
				if err := db.Transact(b.Context(), fn); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(serverTime(db)-began)/float64(b.N), "server-ns/op")
		})
	}
}

// serverTime is the processor time of the server's process that commits, where the system tells it.
func serverTime(db *DB) time.Duration {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", db.writer.conn.pg.PID()))
	fields := strings.Fields(string(stat))
	if len(fields) < 15 {
		return 0
	}
	user, _ := strconv.Atoi(fields[13])
	system, _ := strconv.Atoi(fields[14])
	return time.Duration(user+system) * 10 * time.Millisecond
}
