package tenant

import (
	"fmt"

	"github.com/dserver-go/dserver/backend"
)

// Children calls fn with each text element that follows prefix in some key.
func Children(tx backend.Reader, prefix backend.Key, fn func(name string) error) error {
	return ChildrenIn(tx, prefix, prefix.Below(), fn)
}

// ChildrenIn is Children of the keys in r. It jumps over what one of them has beside its first key. Where they have few keys
// each, it reads those of several at once: a list of a million small servers is no million reads.
func ChildrenIn(tx backend.Reader, prefix backend.Key, r backend.Range, fn func(name string) error) error {
	for limit := 1; ; {
		pairs, err := tx.GetRange(r, backend.RangeOptions{Limit: limit, Bytes: childrenBytes, Snapshot: true}).Get()
		if err != nil || len(pairs) == 0 {
			return err
		}
		found, last := 0, ""
		for _, pair := range pairs {
			name, err := ChildOf(prefix, pair.Key)
			if err != nil {
				return err
			}
			if found > 0 && name == last {
				continue
			}
			found, last = found+1, name
			if err := fn(name); err != nil {
				return err
			}
		}
		r.Begin = prefix.Str(last).Tree().End
		if limit = min(2*limit, childrenLimit); found*childrenKeys < len(pairs) {
			limit = 1
		}
	}
}

const (
	childrenLimit = 64       // keys at once
	childrenKeys  = 8        // above which each child has so many that they are jumped over
	childrenBytes = 64 << 10 // with their values
)

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
