package dserver

import (
	"fmt"
	"reflect"

	"github.com/dserver-go/dserver/internal/turn"
	"github.com/dserver-go/dserver/statediff"
)

// Upgrade reads a state stored as schema version v, whose Go type was Old, into s. A definition's version is one more
// than its highest Upgrade, so the first is 1. The state is written in the new form with the first message that changes
// it. A consumer that meets a newer version than its own leaves the server to others. A consumer that has no Upgrade from
// the stored version leaves it as well, and logs it.
func Upgrade[Old, S any](v int, fn func(old Old, s *S) error) Part[S] {
	place := caller()
	return part[S](func(d *turn.Definition) {
		schema, err := statediff.For(reflect.TypeFor[Old]())
		if err != nil {
			panic(fmt.Sprintf("dserver: the older state of %q cannot be read: %v (Upgrade at %s)", d.Name, err, place))
		}
		if v < 1 {
			panic(fmt.Sprintf("dserver: %q has an Upgrade from version %d at %s; the first version is 1", d.Name, v, place))
		}
		if other, ok := d.Upgrades[v]; ok {
			panic(fmt.Sprintf("dserver: %q has two Upgrades from version %d, at %s and at %s", d.Name, v, other.Place, place))
		}
		d.Upgrades[v] = turn.Upgrade{Place: place, Form: schemaForm{schema}, Into: func(old, state any) error { return fn(*old.(*Old), state.(*S)) }}
		d.Version = max(d.Version, v+1)
	})
}
