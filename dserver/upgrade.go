package dserver

import (
	"fmt"
	"reflect"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/statediff"
)

// upgrade reads a state of an older schema version.
type upgrade struct {
	place  string
	schema *statediff.Schema
	into   func(old, state any) error
}

// Upgrade reads a state stored as schema version v, whose Go type was Old, into s. A definition's version is one more
// than its highest Upgrade, so the first is 1. The state is written in the new form with the first message that changes
// it. A consumer that meets a newer version than its own leaves the server alone; one that has no Upgrade from the
// stored version does, too, and logs it.
func Upgrade[Old, S any](v int, fn func(old Old, s *S) error) Part[S] {
	place := caller()
	return part[S](func(d *definition) {
		schema, err := statediff.For(reflect.TypeFor[Old]())
		if err != nil {
			panic(fmt.Sprintf("dserver: the older state of %q cannot be read: %v (Upgrade at %s)", d.name, err, place))
		}
		if v < 1 {
			panic(fmt.Sprintf("dserver: %q has an Upgrade from version %d at %s; the first version is 1", d.name, v, place))
		}
		if other, ok := d.upgrades[v]; ok {
			panic(fmt.Sprintf("dserver: %q has two Upgrades from version %d, at %s and at %s", d.name, v, other.place, place))
		}
		d.upgrades[v] = upgrade{place, schema, func(old, state any) error { return fn(*old.(*Old), state.(*S)) }}
		d.version = max(d.version, v+1)
	})
}

// decodeOlder makes a value of the rows of an older version.
// A panic of the user's function is an error like the one that it returns: the server waits for a better program.
func decodeOlder(def *definition, version int, rows *statediff.Rows) (value any, err error) {
	defer func() {
		if p := recover(); p != nil {
			value, err = nil, fmt.Errorf("dserver: upgrade the state of a %s from version %d: panic: %v", def.name, version, p)
		}
	}()
	up, ok := def.upgrades[version]
	if !ok {
		return nil, fmt.Errorf("dserver: the state of a %s has schema version %d: version %d has no Upgrade from it", def.name, version, def.version)
	}
	old := up.schema.New().Interface()
	if err := up.schema.Decode(rows, old); err != nil {
		return nil, fmt.Errorf("%w: decode version %d of the state of a %s: %w", backend.ErrCorrupt, version, def.name, err)
	}
	value = def.schema.New().Interface()
	if err := up.into(old, value); err != nil {
		return nil, fmt.Errorf("dserver: upgrade the state of a %s from version %d: %w", def.name, version, err)
	}
	return value, nil
}
