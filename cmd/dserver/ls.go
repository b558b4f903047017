package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// lsCommand lists servers.
type lsCommand struct {
	Type    text          `arg:"" optional:"" help:"Only servers of this type."`
	Trouble bool          `help:"Only servers that need a person: dead letters, halted, paused, failing, or nobody who can handle what is next."`
	Active  bool          `help:"Only servers that have something to do, are locked or need a person. Not all have to be looked at, so it is fast."`
	Is      []string      `enum:"queued,delayed,dead,failing,halted,paused,locked" help:"Only servers that are or have all of these: queued, delayed, dead, failing, halted, paused, locked." placeholder:"WHAT"`
	Sort    string        `enum:"name,queued,dead,attempts" default:"name" help:"By name, or the most first: queued, dead, attempts." placeholder:"WHAT"`
	Limit   int           `help:"How many at most, after they are sorted; 0 is all."`
	Watch   time.Duration `help:"Again and again, after this time, until it is interrupted." placeholder:"DURATION"`
}

// Validate is called by the command line's parser.
func (c *lsCommand) Validate() error {
	if c.Limit < 0 || c.Watch < 0 {
		return errors.New("--limit and --watch are not negative")
	}
	return nil
}

// row is a server in the list.
type row struct {
	ref    dserver.Ref
	status status
}

// Run prints a row per server.
func (c *lsCommand) Run(ctx context.Context, t *tool) error {
	for {
		out := t.out
		var page bytes.Buffer
		if c.Watch > 0 { // a page at once, so that it does not flicker
			out.w = &page
		}
		if err := c.list(ctx, t, out); err != nil {
			return err
		}
		if c.Watch == 0 {
			return nil
		}
		if err := c.showPage(t.out.w, page.Bytes(), t.out.json); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(c.Watch):
		}
	}
}

// topCommand watches the servers that have most to do.
type topCommand struct {
	Type  text          `arg:"" optional:"" help:"Only servers of this type."`
	Limit int           `default:"20" help:"How many at most; 0 is all."`
	Watch time.Duration `default:"2s" help:"After which time it looks again."`
}

// Run lists them again and again.
func (c *topCommand) Run(ctx context.Context, t *tool) error {
	return (&lsCommand{Type: c.Type, Active: true, Sort: "queued", Limit: c.Limit, Watch: c.Watch}).Run(ctx, t)
}

// showPage shows a page of those that follow each other: at a terminal in the place of the one before.
func (*lsCommand) showPage(w io.Writer, page []byte, json bool) error {
	head := ""
	if file, isFile := w.(*os.File); isFile && isTerminal(file) {
		head = "\x1b[H\x1b[2J"
	}
	if !json {
		head += moment(time.Now()) + "\n"
		page = append(page, '\n')
	}
	_, err := w.Write(append([]byte(head), page...))
	return err
}

func (c *lsCommand) list(ctx context.Context, t *tool, out printer) error {
	list := out.list("SERVER", "QUEUED", "DEAD", "STATUS")
	var sorted []row
	err := c.each(ctx, t, func(ref dserver.Ref, found dserver.Status) error {
		if !c.takes(ref, found) {
			return nil
		}
		r := row{ref, newStatus(ref, found)}
		if c.Sort != "name" {
			sorted = append(sorted, r)
			return nil
		}
		return c.add(list, r)
	})
	slices.SortStableFunc(sorted, c.compare)
	for _, r := range sorted {
		if err == nil {
			err = c.add(list, r)
		}
	}
	switch {
	case errors.Is(err, errLimit):
		return errors.Join(list.flush(""), out.more(list.rows))
	case err != nil:
		return err
	}
	return list.flush(c.nothing())
}

// each calls fn with the servers that may be in the list.
func (c *lsCommand) each(ctx context.Context, t *tool, fn func(dserver.Ref, dserver.Status) error) error {
	indexed := dserver.Troubles
	if c.Active {
		indexed = dserver.Active
	}
	if c.Trouble || c.Active {
		for found, err := range indexed(ctx, t.db, typesOf(string(c.Type))...) {
			if err == nil {
				err = fn(found.Ref, found.Status)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return t.eachServer(ctx, string(c.Type), func(ref dserver.Ref) error {
		found, err := ref.At(t.db).Status(ctx)
		if err != nil {
			return err
		}
		return fn(ref, found)
	})
}

func (c *lsCommand) takes(ref dserver.Ref, s dserver.Status) bool {
	is := map[string]bool{
		"queued": s.Queued > 0, "delayed": s.Delayed > 0, "dead": s.DeadLetters > 0, "failing": len(s.Failing) > 0,
		"halted": s.Halted, "paused": s.Paused, "locked": s.Locked,
	}
	return (c.Type == "" || string(c.Type) == ref.Type) && !slices.ContainsFunc(c.Is, func(what string) bool { return !is[what] })
}

func (c *lsCommand) compare(a, b row) int {
	switch c.Sort {
	case "queued":
		return cmp.Compare(b.status.Queued, a.status.Queued)
	case "dead":
		return cmp.Compare(b.status.DeadLetters, a.status.DeadLetters)
	}
	return cmp.Compare(b.status.Attempts, a.status.Attempts)
}

func (c *lsCommand) add(list *list, r row) error {
	if c.Limit > 0 && list.rows == c.Limit {
		return errLimit
	}
	return list.add(r.status, r.ref, r.status.Queued, some(r.status.DeadLetters), r.status.shown())
}

// nothing is what an empty list says.
func (c *lsCommand) nothing() string {
	switch {
	case len(c.Is) > 0:
		return "no server is so: " + strings.Join(c.Is, ", ")
	case c.Trouble:
		return "no server is in trouble"
	case c.Active:
		return "no server has something to do"
	case c.Type != "":
		return fmt.Sprintf("there are no servers of type %q", c.Type)
	}
	return "there are no servers"
}
