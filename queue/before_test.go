package queue_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/queue"
)

// What was pushed before a stamp is found in both lanes, whole, and nothing that was pushed by that commit or later.
func TestReadBeforeFindsWhatIsOlder(t *testing.T) {
	db, q := backendtest.NewModel(), queue.At(backend.NewKey("q"))
	large := bytes.Repeat([]byte("large"), 100_000)
	push := func(lane queue.Lane, items ...[]byte) (stamp backend.Versionstamp) {
		t.Helper()
		var version backend.Future[backend.Versionstamp]
		err := db.Transact(t.Context(), func(tx backend.Tx) error {
			version = tx.Version()
			return q.Push(tx, lane, items...)
		})
		if err == nil {
			stamp, err = version.Get()
		}
		if err != nil {
			t.Fatal(err)
		}
		return stamp
	}
	push(queue.Normal, []byte("n0"), large, []byte("n1"))
	push(queue.Priority, []byte("p0"))
	border := push(queue.Priority, []byte("p1"))
	push(queue.Normal, []byte("n2"))

	var found []string
	for more := true; more; {
		err := db.Transact(t.Context(), func(tx backend.Tx) error {
			items, err := q.ReadBefore(tx, border, 1)
			if more = len(items) > 0; more {
				q.Remove(tx, items...)
				found = append(found, string(items[0].Body[:2]))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(found); got != "[p0 n0 la n1]" {
		t.Errorf("found %s", got)
	}
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		items, err := q.Read(tx, queue.Item{}, 10)
		if len(items) != 2 || string(items[0].Body) != "p1" || string(items[1].Body) != "n2" {
			t.Errorf("left: %d items", len(items))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
