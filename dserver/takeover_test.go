package dserver_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
)

const holderEnv = "DSERVER_TEST_HOLDER"

// TestHolderChild is the process that TestKilledHoldersLockIsTakenOver kills: it holds the lock of each server that it
// is asked to, and says so.
func TestHolderChild(t *testing.T) {
	path := os.Getenv(holderEnv)
	if path == "" {
		t.Skip("the child process of another test")
	}
	db, err := sqlite.Open(path, sqlite.Relaxed())
	must(t, err)
	types := safes(func(ctx *dserver.LockedContext, _ Safe, m Toil) (string, error) {
		fmt.Println("holds", m.ID)
		<-ctx.Done()
		return "", ctx.Err()
	})
	_ = dserver.Run(context.Background(), db, types)
}

// The child is killed with SIGKILL while it holds locks, each at another moment between two beats. Another consumer has
// each of them within the lease (3 s) and a second, and the callers get their answers. With LONG=1 the time is judged;
// else the machine may be busy with other tests, and TestTrap05LockOfADeadHolderEnds judges it in virtual time.
func TestKilledHoldersLockIsTakenOver(t *testing.T) {
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
		wg.Go(func() {
			defer func() { <-slots }()
			for _, took := range killHolder(t, perChild, time.Duration(i*97%500)*time.Millisecond) {
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
func killHolder(t *testing.T, servers int, after time.Duration) (took []time.Duration) {
	path := filepath.Join(t.TempDir(), "holder.db")
	open := func() backend.Database {
		db, err := sqlite.Open(path, sqlite.Relaxed())
		if err != nil {
			t.Error(err)
		}
		return db
	}
	db := open()
	defer db.Close()
	child := exec.Command(os.Args[0], "-test.run", "^TestHolderChild$")
	child.Env = append(os.Environ(), holderEnv+"="+path)
	out, err := child.StdoutPipe()
	if err == nil {
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
	other := open()
	defer other.Close()
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
