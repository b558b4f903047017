package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/dserver-go/dserver/dserver"
)

// exportCommand writes servers to a file.
type exportCommand struct {
	File   string `arg:"" help:"The file, which must not be there; - is standard output."`
	Server server `arg:"" optional:"" help:"Only this server."`
	Type   text   `help:"Only the servers of this type." placeholder:"NAME"`
}

// Validate is called by the command line's parser.
func (c *exportCommand) Validate() error {
	if c.Server != (server{}) && c.Type != "" {
		return errors.New("give a server or --type, not both")
	}
	return nil
}

// Run writes them. A file that could not be written whole is removed.
func (c *exportCommand) Run(ctx context.Context, t *tool) (err error) {
	if c.File == "-" {
		if t.out.json {
			return errors.New("--json and an export to standard output would be one text")
		}
		_, err := dserver.Export(ctx, t.db, t.out.w, c.servers(ctx, t))
		return err
	}
	file, err := os.OpenFile(c.File, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(c.File))
		}
	}()
	w := bufio.NewWriter(file)
	n, err := dserver.Export(ctx, t.db, w, c.servers(ctx, t))
	if err = errors.Join(err, w.Flush(), file.Sync(), file.Close()); err != nil {
		return err
	}
	return t.out.line(map[string]any{"exported": n, "file": jsonText(c.File)}, "exported %s to %s", counted(n, "server"), visible(c.File))
}

func (c *exportCommand) servers(ctx context.Context, t *tool) iter.Seq2[dserver.Ref, error] {
	switch {
	case c.Server != (server{}):
		return func(yield func(dserver.Ref, error) bool) { yield(c.Server.Ref, nil) }
	case c.Type != "":
		return dserver.Servers(ctx, t.db, string(c.Type))
	}
	return dserver.All(ctx, t.db)
}

// importCommand makes the servers of a file.
type importCommand struct {
	File string `arg:"" help:"The file; - is standard input."`
}

// Run makes them.
func (c *importCommand) Run(ctx context.Context, t *tool) error {
	from := io.Reader(os.Stdin)
	if c.File != "-" {
		file, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer file.Close() //nolint:errcheck // it was only read
		from = file
	}
	n, err := dserver.Import(ctx, t.db, bufio.NewReader(from))
	if errors.Is(err, dserver.ErrChanged) {
		return fmt.Errorf("%w; %s kill SERVER removes one", err, t.self())
	}
	if err != nil {
		return err
	}
	return t.out.line(map[string]int{"imported": n}, "imported %s", counted(n, "server"))
}

// counted is a number of things.
func counted(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}
