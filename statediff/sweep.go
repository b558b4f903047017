package statediff

import "slices"

// What a Diff did not meet is gone from the value, or was never known to the type. This file tells them apart and clears
// the first with the fewest edits.

// keepUnknown marks as met the rows under names that a struct of the type does not have, so that they stay.
func (d *differ) keepUnknown() {
	for i := range d.rows.list {
		if r := &d.rows.list[i]; r.seen != d.epoch && d.isUnknown(r.key()) {
			r.seen = d.epoch
		}
	}
}

// isUnknown follows a key from the root. Below an entry that is gone everything is known to be gone.
func (d *differ) isUnknown(key string) bool {
	n := d.schema.root
	for at := 0; ; {
		if n.owns() && !d.isMet(key[:at]) || slices.Contains(d.apart, key[:at]) {
			return false
		}
		size := elementLen(key[at:])
		if size == 0 {
			return false
		}
		next, known := n.child(key[at : at+size])
		if next == nil {
			return !known && (!d.rewrite || d.from != nil && !d.from.knows(key[:at+size]))
		}
		n, at = next, at+size
	}
}

// knows tells whether rows of the schema may have the key.
func (s *Schema) knows(key string) bool {
	n := s.root
	for at := 0; at < len(key); {
		size := elementLen(key[at:])
		if size == 0 {
			return false
		}
		next, known := n.child(key[at : at+size])
		if next == nil {
			return known
		}
		n, at = next, at+size
	}
	return true
}

func (d *differ) isMet(key string) bool {
	i, found := d.rows.search(key)
	return found && d.rows.list[i].seen == d.epoch
}

// clears returns edits for all rows that were not met: for each the shallowest key below which none was met.
func (d *differ) clears() []Edit {
	var edits []Edit
	list := d.rows.list
	for i := 0; i < len(list); {
		if list[i].seen == d.epoch {
			i++
			continue
		}
		edit, next := d.clearFrom(i)
		edits = append(edits, edit)
		i = next
	}
	return edits
}

func (d *differ) clearFrom(i int) (Edit, int) {
	key := d.rows.list[i].key()
	for at := 0; at < len(key); {
		if next := d.endOfTree(i, key[:at]); next > i+1 && !d.schema.holdsTracked(key[:at]) {
			return Edit{Key: key[:at], Clear: Tree}, next
		}
		size := elementLen(key[at:])
		if size == 0 {
			break
		}
		at += size
	}
	if next := d.endOfTree(i, key); next > i+1 {
		return Edit{Key: key, Clear: Tree}, next
	}
	return Edit{Key: key, Clear: Only}, i + 1
}

// endOfTree returns where the rows below prefix end, when the first of them is row i and none was met; else 0.
func (d *differ) endOfTree(i int, prefix string) int {
	list := d.rows.list
	if i > 0 && isBelow(list[i-1].key(), prefix) {
		return 0
	}
	for ; i < len(list) && isBelow(list[i].key(), prefix); i++ {
		if list[i].seen == d.epoch {
			return 0
		}
	}
	return i
}
