package dserver

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dserver-go/dserver/backend"
)

// Ref names a server. It is plain data: it may be kept in a state, sent in a message, compared.
type Ref struct {
	Type string `cbor:"type"`
	ID   string `cbor:"id"`
}

// maxNameBytes bounds a type's name and an id. Both are part of each key, and of keys below them of up to 8 KiB.
const maxNameBytes = 1 << 10

// At returns a handle without a Go type: it sends, its State is maps and slices, and it has all that operators need.
func (r Ref) At(db backend.Database) *DServer[any] {
	return &DServer[any]{handle{db: db, def: &definition{name: r.Type}, id: r.ID}}
}

// String returns "type/id".
func (r Ref) String() string { return r.Type + "/" + r.ID }

// ParseRef reads what String returns. The type ends at the first slash.
func ParseRef(s string) (Ref, error) {
	typ, id, ok := strings.Cut(s, "/")
	r := Ref{typ, id}
	if !ok {
		return r, fmt.Errorf("dserver: %q names no server: write type/id", s)
	}
	return r, r.check()
}

func (r Ref) check() error {
	if err := checkTypeName(r.Type); err != nil {
		return err
	}
	switch {
	case r.ID == "":
		return fmt.Errorf("dserver: a server of type %q without an id", r.Type)
	case len(r.ID) > maxNameBytes:
		return fmt.Errorf("dserver: %w: the id of a server of type %q has %d bytes; at most %d", backend.ErrTooLarge, r.Type, len(r.ID), maxNameBytes)
	}
	return nil
}

func checkTypeName(name string) error {
	switch {
	case name == "":
		return errors.New("dserver: a type of server without a name")
	case strings.Contains(name, "/"):
		return fmt.Errorf("dserver: the type name %q has a slash, which separates it from the id", name)
	case len(name) > maxNameBytes:
		return fmt.Errorf("dserver: a type name of %d bytes; at most %d", len(name), maxNameBytes)
	}
	return nil
}
