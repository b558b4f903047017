package operate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// maxNames is how many names are read from one snapshot.
const maxNames = 256

// namesBelow yields the text elements that follow prefix in some key, in their order. No snapshot lives longer than a page
// of them.
func namesBelow(ctx context.Context, db backend.Database, prefix backend.Key) iter.Seq2[string, error] {
	return namesFrom(ctx, db, prefix, prefix.Below())
}

// namesFrom is namesBelow in a range.
func namesFrom(ctx context.Context, db backend.Database, prefix backend.Key, rest backend.Range) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := eachPageIn(ctx, db, prefix, rest, noMore, func(page []string) bool {
			for _, name := range page {
				if !yield(name, nil) {
					return false
				}
			}
			return true
		})
		if err != nil {
			yield("", err)
		}
	}
}

// noMore reads no more of a page than its names.
func noMore(backend.Reader, []string) error { return nil }

// eachPage calls read with each page of the text elements that follow prefix in some key, in the snapshot that has them,
// and then use, until that returns false. The page is read again where the snapshot is.
func eachPage(
	ctx context.Context, db backend.Database, prefix backend.Key,
	read func(tx backend.Reader, page []string) error, use func(page []string) bool,
) error {
	return eachPageIn(ctx, db, prefix, prefix.Below(), read, use)
}

// eachPageIn is eachPage in a range.
func eachPageIn(
	ctx context.Context, db backend.Database, prefix backend.Key, rest backend.Range,
	read func(tx backend.Reader, page []string) error, use func(page []string) bool,
) error {
	for {
		var page []string
		err := db.Read(ctx, func(tx backend.ReadTx) (err error) {
			if page, err = namesIn(tx, prefix, rest); err != nil {
				return err
			}
			return read(tx, page)
		})
		if err != nil {
			return fmt.Errorf("dserver: list %v: %w", prefix, err)
		}
		if !use(page) || len(page) < maxNames {
			return nil
		}
		rest.Begin = prefix.Str(page[len(page)-1]).Tree().End
	}
}

// errPage ends the reading of children at a page's end.
var errPage = errors.New("dserver: the page is full")

func namesIn(tx backend.Reader, prefix backend.Key, r backend.Range) (page []string, err error) {
	err = tenant.ChildrenIn(tx, prefix, r, func(name string) error {
		if page = append(page, name); len(page) == maxNames {
			return errPage
		}
		return nil
	})
	if errors.Is(err, errPage) {
		err = nil
	}
	return page, err
}

// Types yields the names of the types that have servers in a database, in their order.
func Types(ctx context.Context, db backend.Database) iter.Seq2[string, error] {
	return namesBelow(ctx, db, backend.NewKey(tenant.KeyServer))
}

// Servers yields the ids of the servers of a type, in their order.
func Servers(ctx context.Context, db backend.Database, typ string) iter.Seq2[string, error] {
	return namesBelow(ctx, db, backend.NewKey(tenant.KeyServer, typ))
}

// ServersFrom yields those ids of Servers that begin with prefix and come after an id; "" is none.
func ServersFrom(ctx context.Context, db backend.Database, typ, prefix, after string) iter.Seq2[string, error] {
	servers := backend.NewKey(tenant.KeyServer, typ)
	rest := servers.Below()
	if prefix != "" {
		rest.Begin = servers.Str(prefix) // no id with the prefix is before the prefix itself
	}
	if after != "" && after >= prefix {
		rest.Begin = servers.Str(after).Tree().End
	}
	return func(yield func(string, error) bool) {
		for id, err := range namesFrom(ctx, db, servers, rest) {
			if err == nil && !strings.HasPrefix(id, prefix) {
				return
			}
			if !yield(id, err) {
				return
			}
		}
	}
}
