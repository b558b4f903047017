//go:build unix

package sqlite

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
)

func init() { children["idle"] = childIdles }

// childIdles watches a key that nobody changes, and says what processor time that takes.
func childIdles(ctx context.Context, db *DB) error {
	var watch backend.Watch
	err := db.Read(ctx, func(tx backend.ReadTx) error {
		watch = tx.Watch(backend.NewKey("never"))
		return nil
	})
	if err != nil {
		return err
	}
	share := func(wake <-chan time.Time) (least int64) {
		for n := range 5 { // what else happens meanwhile, a collection of garbage or a busy machine, only adds
			used := shareOf(200*time.Millisecond, watch, wake)
			if n == 0 || used < least {
				least = used
			}
		}
		return least
	}
	idle := share(nil)
	if err := db.Close(); err != nil {
		return err
	}
	watch = &neverWatch{}
	ticker := time.NewTicker(pollIdle)
	defer ticker.Stop()
	fmt.Println("idle", idle, share(ticker.C))
	return nil
}

// shareOf waits, and says in hundredths of a percent what that took of a core.
func shareOf(d time.Duration, watch backend.Watch, wake <-chan time.Time) int64 {
	before, began := processorTime(), time.Now()
	for end := time.After(d); ; {
		select {
		case <-watch.Done():
			fmt.Println("error: it fired")
		case <-wake:
		case <-end:
			return (processorTime() - before).Nanoseconds() * 10_000 / time.Since(began).Nanoseconds()
		}
	}
}

type neverWatch struct{ backend.Watch }

func (*neverWatch) Done() <-chan struct{} { return nil }

func processorTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// A process that waits for others to change something takes less than a hundredth of a core, where to wake up is cheap:
// little more than one that wakes up as often and does nothing.
func TestIdleWatchCostsLittle(t *testing.T) {
	c := startChild(t, "idle", filled(t))
	var idle, bare int
	if _, err := fmt.Sscan(c.line(t, "idle"), &idle, &bare); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d.%02d %% of a core; %d.%02d %% without the looks", idle/100, idle%100, bare/100, bare%100)
	if idle > 3*bare+300 {
		t.Errorf("%d.%02d %% of a core, and %d.%02d %% without the looks", idle/100, idle%100, bare/100, bare%100)
	}
}
