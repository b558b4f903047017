package console

import (
	"context"
	"net/http"
	"strings"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
)

// What a search shows: of each type so many servers, in so many types.
const (
	searchRows  = 10
	searchTypes = 50
)

// searchData is what a search has found.
type searchData struct {
	Given string
	Types []foundType
	Named []string // types whose names begin so
	Cut   bool
}

// foundType is what was found of a type.
type foundType struct {
	Name  string
	Rows  []serverRow
	More  bool
	Given string // the prefix within the type
}

type searchSource struct {
	db            backend.Database
	given, sought string
}

// search finds servers by the beginning of their ids, in all types; or in one, as type/id.
func (c *console) search(r *http.Request) (*view, error) {
	s := searchSource{db: c.db, given: strings.TrimSpace(r.URL.Query().Get("q"))}
	var err error
	if s.sought, err = display.Unquoted(s.given); err != nil {
		return nil, badRequest(err.Error())
	}
	return &view{name: "search", title: "Search", source: s}, nil
}

func (s searchSource) load(ctx context.Context) (any, error) {
	d := searchData{Given: s.given}
	if s.sought == "" {
		return d, nil
	}
	typ, id, isRef := strings.Cut(s.sought, "/")
	looked := 0
	for name, err := range dserver.Types(ctx, s.db) {
		if err != nil {
			return nil, err
		}
		if d.Cut = looked == searchTypes; d.Cut {
			break
		}
		looked++
		if strings.HasPrefix(name, s.sought) {
			d.Named = append(d.Named, name)
		}
		prefixes := []string{s.sought}
		if isRef && typ == name {
			prefixes = []string{id, s.sought}
		}
		for _, prefix := range prefixes {
			found, err := s.in(ctx, name, prefix)
			if err != nil {
				return nil, err
			}
			if len(found.Rows) > 0 {
				d.Types = append(d.Types, found)
			}
		}
	}
	return d, nil
}

func (s searchSource) in(ctx context.Context, typ, prefix string) (found foundType, err error) {
	found = foundType{Name: typ, Given: display.Quoted(prefix)}
	for ref, err := range dserver.ServersFrom(ctx, s.db, typ, prefix, "") {
		if err != nil {
			return found, err
		}
		if found.More = len(found.Rows) == searchRows; found.More {
			break
		}
		status, err := ref.At(s.db).Status(ctx)
		if err != nil {
			return found, err
		}
		found.Rows = append(found.Rows, newServerRow(ref, status))
	}
	return found, nil
}
