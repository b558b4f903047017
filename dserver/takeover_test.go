package dserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

const holderEnv = "DSERVER_TEST_HOLDER"

// TestHolderChild is the process that TestKilledHoldersLockIsTakenOver kills: it holds the lock of each server that it
// is asked to, and says so.
func TestHolderChild(t *testing.T) {
	name := os.Getenv(holderEnv)
	if name == "" {
		t.Skip("the child process of another test")
	}
	types := safes(func(ctx *dserver.LockedContext, _ Safe, m Toil) (string, error) {
		fmt.Println("holds", m.ID)
		<-ctx.Done()
		return "", ctx.Err()
	})
	_ = dserver.Run(untilOrphaned(), openNamed(t, name), types)
}

// The child is killed with SIGKILL while it holds locks, each at another moment between two beats. Another consumer has
// each of them within the lease (3 s) and a second, and the callers get their answers. With LONG=1 the time is judged;
// else the machine may be busy with other tests, and TestTrap05LockOfADeadHolderEnds judges it in virtual time.
func TestKilledHoldersLockIsTakenOver(t *testing.T) {
	t.Parallel()
	eachNamedStore(t, killHolders)
}

func killHolders(t *testing.T, place func(testing.TB) (name string)) {
	children, perChild, limit := 5, 1, time.Minute
	if isLong() {
		children, perChild, limit = 25, 4, 4*time.Second
	}
	var mu sync.Mutex
	var slowest time.Duration
	count := 0
	slots := make(chan struct{}, 5) // at once
	var wg sync.WaitGroup
	for i := range children {
		slots <- struct{}{}
		name := place(t)
		db, other := openNamed(t, name), openNamed(t, name)
		wg.Go(func() {
			defer func() { <-slots }()
			defer db.Close()
			defer other.Close()
			for _, took := range killHolder(t, name, db, other, perChild, time.Duration(i*97%500)*time.Millisecond) {
				mu.Lock()
				slowest = max(slowest, took)
				count++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d takeovers, the slowest after %v", count, slowest)
	if slowest > limit || count != children*perChild {
		t.Errorf("of %d locks %d were taken over, the slowest after %v", children*perChild, count, slowest)
	}
}

// killHolder kills a child that holds the locks of some servers, and says how long each was held by the dead.
func killHolder(t *testing.T, name string, db, other backend.Database, servers int, after time.Duration) (took []time.Duration) {
	child := childOf("TestHolderChild", holderEnv, name)
	_, err := child.StdinPipe() // its end is the child's
	out, outErr := child.StdoutPipe()
	if err = errors.Join(err, outErr); err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	defer child.Wait()
	defer child.Process.Kill()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answers := make(chan error, servers)
	for i := range servers {
		go func() {
			_, err := dserver.Call(ctx, safe.At(db, fmt.Sprint(i)), Toil{ID: fmt.Sprint(i)})
			answers <- err
		}()
	}
	scanner := bufio.NewScanner(out)
	for held := 0; held < servers; {
		if !scanner.Scan() {
			t.Error("the child ended")
			return nil
		}
		if strings.HasPrefix(scanner.Text(), "holds ") {
			held++
		}
	}
	entered := make(chan time.Time, servers)
	run(t, dserver.Consumer{}, other, safes(func(ctx *dserver.LockedContext, _ Safe, m Toil) (string, error) {
		entered <- time.Now()
		if ctx.Attempt() != 2 {
			return "", fmt.Errorf("it is attempt %d", ctx.Attempt())
		}
		return m.ID, nil
	}))
	<-time.After(5*time.Second + after) // it lives: nobody takes over
	if len(entered) > 0 {
		t.Error("the lock of a living holder was taken over")
	}
	killed := time.Now()
	if err := child.Process.Kill(); err != nil {
		t.Error(err)
	}
	for range servers {
		if err := <-answers; err != nil {
			t.Errorf("a caller got %v", err)
			return nil
		}
		took = append(took, (<-entered).Sub(killed))
	}
	return took
}
