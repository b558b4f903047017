package tenant

import (
	"fmt"

	"github.com/dserver-go/dserver/backend"
)

// Children calls fn with each text element that follows prefix in some key.
func Children(tx backend.Reader, prefix backend.Key, fn func(name string) error) error {
	return ChildrenIn(tx, prefix, prefix.Below(), fn)
}

// ChildrenIn is Children of the keys in r. It reads one key of each and jumps over the others.
func ChildrenIn(tx backend.Reader, prefix backend.Key, r backend.Range, fn func(name string) error) error {
	for {
		pairs, err := tx.GetRange(r, backend.RangeOptions{Limit: 1, Snapshot: true}).Get()
		if err != nil || len(pairs) == 0 {
			return err
		}
		name, err := ChildOf(prefix, pairs[0].Key)
		if err != nil {
			return err
		}
		if err := fn(name); err != nil {
			return err
		}
		r.Begin = prefix.Str(name).Tree().End
	}
}

// ChildOf is the text element that follows prefix in key.
func ChildOf(prefix, key backend.Key) (string, error) {
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

// MaxScan is how many marks are read at once.
const MaxScan = 1000
