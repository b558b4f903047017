package dserver

import (
	"fmt"
	"reflect"

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
// it. A consumer that meets a newer version than its own leaves the server to others. A consumer that has no Upgrade from
// the stored version leaves it as well, and logs it.
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
			value, err = nil, errUpgrade(def, version, fmt.Errorf("panic: %v", p))
		}
	}()
	up, ok := def.upgrades[version]
	if !ok {
		return nil, errNoUpgrade(def, version)
	}
	old := up.schema.New().Interface()
	if err := up.schema.Decode(rows, old); err != nil {
		return nil, errUnreadable(def, rows, err, fmt.Sprintf("the Upgrade from version %d reads another type than was stored: "+
			"make its Old what the state was then (Upgrade at %s)", version, up.place))
	}
	value = def.schema.New().Interface()
	if err := up.into(old, value); err != nil {
		return nil, errUpgrade(def, version, err)
	}
	return value, nil
}

func errUpgrade(def *definition, version int, err error) error {
	return because(ErrState, "type %q: the Upgrade from schema version %d failed: %v: mend it (at %s)", def.name, version, err, def.upgrades[version].place)
}

func errNoUpgrade(def *definition, version int) error {
	if version > def.version {
		return because(ErrState, "type %q: the state was stored by a newer program, as schema version %d, and this one knows versions up to %d: "+
			"run that program", def.name, version, def.version)
	}
	return because(ErrState, "type %q: the state has schema version %d, and there is no Upgrade from it to version %d: write Upgrade[Old](%d, ...) "+
		"with the type that the state had then (Define at %s)", def.name, version, def.version, version, def.place)
}
