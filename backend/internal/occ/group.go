package occ

import "github.com/dserver-go/dserver/backend"

// Absorb takes t, which has not lost, into the group as the commit of this number, and lays its writes over those of the
// group. Where that group was not committed, another may absorb t again.
func (c *Record) Absorb(t *Tx, number int64) {
	t.commit = backend.NewVersionstamp(uint64(number), 0)
	c.executed = c.executed || len(t.statements) > 0
	for r := range t.cleared.All() {
		c.points.drop(r)
		c.cleared.Add(r)
	}
	for _, block := range t.points.blocks {
		for _, w := range block {
			c.lay(w, t.commit)
		}
	}
	t.dropCleared()
	for i, a := range t.appends {
		if !a.isCleared {
			c.points.put(&Write{Kind: Set, Key: t.keyOf(i), Value: a.value})
		}
	}
}

// lay lays one write of the transaction v over those of the group.
func (c *Record) lay(w *Write, v backend.Versionstamp) {
	if w.Kind == stamp {
		w.Kind, w.isStamp = Set, true
	}
	if w.isStamp {
		w.Value = v[:]
	}
	if w.Kind == Add {
		if before := c.points.find(w.Key); before != nil {
			w = plus(before, w.Delta)
		}
	}
	c.points.put(w)
}
