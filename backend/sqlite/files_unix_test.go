//go:build unix

package sqlite

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"

	"github.com/dserver-go/dserver/backend"
)

func init() { children["crowd"] = childCrowds }

const crowd = 100

// childCrowds reads with more transactions at once than it may have files open for.
func childCrowds(ctx context.Context, db *DB) error {
	const files = 60
	limit := syscall.Rlimit{Cur: files, Max: files}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	var all sync.WaitGroup
	errs := make(chan error, crowd)
	first := sync.WaitGroup{} // all have begun
	first.Add(crowd)
	for range crowd {
		all.Go(func() {
			first.Done()
			first.Wait()
			errs <- db.Read(ctx, func(tx backend.ReadTx) error {
				_, err := tx.Get(backend.NewKey("k", 0, 0)).Get()
				idle(ctx)
				return err
			})
		})
	}
	all.Wait()
	served := 0
	for range crowd {
		if err := <-errs; err != nil {
			fmt.Println("error", err)
		} else {
			served++
		}
	}
	fmt.Println("served", served)
	return nil
}

// idle keeps a snapshot for longer than others wait before they open a connection.
func idle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*calmWait)
	defer cancel()
	<-ctx.Done()
}

// Where the process may have no more files open, snapshots wait for one that comes back, too.
func TestSnapshotsBeyondTheFilesOfAProcessWait(t *testing.T) {
	c := startChild(t, "crowd", filled(t))
	if n := c.line(t, "served"); n != fmt.Sprint(crowd) {
		t.Errorf("%s of %d were served", n, crowd)
	}
}
