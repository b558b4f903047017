package dserver

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/dserver-go/dserver/backend"
)

// Types yields the names of the types that have servers in a database, in their order. An error ends it.
func Types(ctx context.Context, db backend.Database) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := refuseTurn(ctx, "Types"); err != nil {
			yield("", err)
			return
		}
		names(ctx, db, backend.NewKey(keyServer))(yield)
	}
}

// Servers yields the servers of a type, in the order of their ids: all of which anything is stored, be it a message
// that waits or a dead letter. An error ends it. It reads page by page, so the loop may take its time; servers that come
// or go meanwhile may be missed.
func Servers(ctx context.Context, db backend.Database, typ string) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		err := refuseTurn(ctx, "Servers")
		if err == nil {
			err = checkTypeName(typ)
		}
		if err != nil {
			yield(Ref{}, err)
			return
		}
		for id, err := range names(ctx, db, backend.NewKey(keyServer, typ)) {
			ref := Ref{typ, id}
			if err != nil {
				ref = Ref{}
			}
			if !yield(ref, err) {
				return
			}
		}
	}
}

// maxNames is how many names are read from one snapshot.
const maxNames = 256

// names yields the text elements that follow prefix in some key, in their order. No snapshot lives longer than a page
// of them.
func names(ctx context.Context, db backend.Database, prefix backend.Key) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for rest := prefix.Below(); ; {
			var page []string
			err := db.Read(ctx, func(tx backend.ReadTx) (err error) {
				page, err = namesIn(tx, prefix, rest)
				return err
			})
			if err != nil {
				yield("", fmt.Errorf("dserver: list %v: %w", prefix, err))
				return
			}
			for _, name := range page {
				if !yield(name, nil) {
					return
				}
			}
			if len(page) < maxNames {
				return
			}
			rest.Begin = prefix.Str(page[len(page)-1]).Tree().End
		}
	}
}

// errPage ends the reading of children at a page's end.
var errPage = errors.New("dserver: the page is full")

func namesIn(tx backend.Reader, prefix backend.Key, r backend.Range) (page []string, err error) {
	err = childrenIn(tx, prefix, r, func(name string) error {
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

// children calls fn with each text element that follows prefix in some key.
func children(tx backend.Reader, prefix backend.Key, fn func(name string) error) error {
	return childrenIn(tx, prefix, prefix.Below(), fn)
}

// childrenIn is children of the keys in r. It reads one key of each and jumps over the others.
func childrenIn(tx backend.Reader, prefix backend.Key, r backend.Range, fn func(name string) error) error {
	for {
		pairs, err := tx.GetRange(r, backend.RangeOptions{Limit: 1, Snapshot: true}).Get()
		if err != nil || len(pairs) == 0 {
			return err
		}
		name, err := childOf(prefix, pairs[0].Key)
		if err != nil {
			return err
		}
		if err := fn(name); err != nil {
			return err
		}
		r.Begin = prefix.Str(name).Tree().End
	}
}

// childOf is the text element that follows prefix in key.
func childOf(prefix, key backend.Key) (string, error) {
	rest, _ := key.CutPrefix(prefix)
	elements, err := rest.Elements()
	if err != nil {
		return "", err
	}
	name, ok := elements[0].(string)
	if !ok {
		return "", fmt.Errorf("%w: the key %v has no name after %v", backend.ErrCorrupt, key, prefix)
	}
	return name, nil
}
