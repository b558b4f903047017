package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/dserver-go/dserver/backend"
)

// followed is the subject with a process beside it in which so many follow its first server.
func followed(followers int) entry {
	return entry{
		name: fmt.Sprintf("DServer on SQLite, %d followers in another process", followers),
		open: func(ctx context.Context, dir string, n int) (contender, error) {
			c, err := openDurable(ctx, dir, n)
			if err != nil {
				return nil, err
			}
			child, err := startChild(ctx, roleFollowers+strconv.Itoa(followers), file(dir))
			if err != nil {
				return nil, errors.Join(err, c.close())
			}
			return &followedServers{c.(*servers), child}, nil
		}}
}

type followedServers struct {
	*servers
	child *child
}

func (f *followedServers) others() (usage, error) { return f.child.use() }

func (f *followedServers) close() error { return errors.Join(f.child.end(), f.servers.close()) }

// roleFollowers is followed by their number.
const roleFollowers = "followers"

// beFollowers follows the first server until its input ends. What the followers see has to grow.
func beFollowers(ctx context.Context, db backend.Database, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	ctx, leave := context.WithCancel(ctx)
	var all sync.WaitGroup
	failed := make(chan error, n)
	for range n {
		all.Go(func() { failed <- followOne(ctx, db) })
	}
	lines, answers := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() && err == nil {
		err = answers.Encode(currentUsage())
	}
	leave()
	all.Wait()
	for range n {
		err = errors.Join(err, <-failed)
	}
	return errors.Join(err, lines.Err())
}

func followOne(ctx context.Context, db backend.Database) error {
	last := int64(-1)
	for c, err := range handles(counters, db, 1)[0].Follow(ctx) {
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case c.Count <= last:
			return fmt.Errorf("a follower saw %d after %d", c.Count, last)
		}
		last = c.Count
	}
	return errors.New("the followers' loop has ended")
}

// isFollowers tells the role of followers, and their number.
func isFollowers(role string) (count string, is bool) { return strings.CutPrefix(role, roleFollowers) }
