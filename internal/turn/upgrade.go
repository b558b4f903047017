package turn

import (
	"fmt"

	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/statediff"
)

// decodeOlder makes a value of the rows of an older version.
// A panic of the user's function is an error like the one that it returns: the server waits for a better program.
func decodeOlder(def *Definition, version int, rows *statediff.Rows) (value any, err error) {
	defer func() {
		if p := recover(); p != nil {
			value, err = nil, errUpgrade(def, version, fmt.Errorf("panic: %v", p))
		}
	}()
	up, ok := def.Upgrades[version]
	if !ok {
		return nil, errNoUpgrade(def, version)
	}
	old := up.Form.New()
	if err := up.Form.Decode(rows, old); err != nil {
		return nil, errUnreadable(def, rows, err, fmt.Sprintf("the Upgrade from version %d reads another type than was stored: "+
			"make its Old what the state was then (Upgrade at %s)", version, up.Place))
	}
	value = def.Form.New()
	if err := up.Into(old, value); err != nil {
		return nil, errUpgrade(def, version, err)
	}
	return value, nil
}

func errUpgrade(def *Definition, version int, err error) error {
	return tenant.Because(tenant.ErrState, "type %q: the Upgrade from schema version %d failed: %v: mend it (at %s)", def.Name, version, err, def.Upgrades[version].Place)
}

func errNoUpgrade(def *Definition, version int) error {
	if version > def.Version {
		return tenant.Because(tenant.ErrState, "type %q: the state was stored by a newer program, as schema version %d, and this one knows versions up to %d: "+
			"run that program", def.Name, version, def.Version)
	}
	return tenant.Because(tenant.ErrState, "type %q: the state has schema version %d, and there is no Upgrade from it to version %d: write Upgrade[Old](%d, ...) "+
		"with the type that the state had then (Define at %s)", def.Name, version, def.Version, version, def.Place)
}
