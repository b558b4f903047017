package tenant

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dserver-go/dserver/backend"
)

// Ref names a server. Its field names are part of the stored format.
type Ref struct {
	Type string `cbor:"type"`
	ID   string `cbor:"id"`
}

// MaxNameBytes bounds a type's name and an id. Both are part of each key, and of keys below them of up to 8 KiB.
const MaxNameBytes = 1 << 10

// String returns "type/id".
func (r Ref) String() string { return r.Type + "/" + r.ID }

// Check refuses a name that cannot be part of keys.
func (r Ref) Check() error {
	if err := CheckTypeName(r.Type); err != nil {
		return err
	}
	switch {
	case r.ID == "":
		return fmt.Errorf("dserver: a server of type %q without an id", r.Type)
	case len(r.ID) > MaxNameBytes:
		return fmt.Errorf("dserver: %w: the id of a server of type %q has %d bytes; at most %d", backend.ErrTooLarge, r.Type, len(r.ID), MaxNameBytes)
	}
	return nil
}

// CheckTypeName refuses a name that no type of server can have.
func CheckTypeName(name string) error {
	switch {
	case name == "":
		return errors.New("dserver: a type of server without a name")
	case strings.Contains(name, "/"):
		return fmt.Errorf("dserver: the type name %q has a slash, which separates it from the id", name)
	case len(name) > MaxNameBytes:
		return fmt.Errorf("dserver: a type name of %d bytes; at most %d", len(name), MaxNameBytes)
	}
	return nil
}
