package dserver

import (
	"fmt"
	"strings"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/consumer"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// Ref names a server. It is plain data: it may be kept in a state, sent in a message, compared.
type Ref struct {
	Type string `cbor:"type"`
	ID   string `cbor:"id"`
}

// At returns a handle without a Go type: it sends, its State is maps and slices, and it has all that operators need.
func (r Ref) At(db backend.Database) *DServer[any] {
	db, h := inside(db)
	return &DServer[any]{handle{consumer.Handle{DB: db, Def: &turn.Definition{Name: r.Type}, Ref: tenant.Ref(r), Hooks: h.asHooks()}}}
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
	return r, tenant.Ref(r).Check()
}
