package statediff

import "slices"

// fetched is an entry's rows.
type fetched struct {
	element string
	rows    []row
}

// fetch reads an entry: one row, and those below when there can be any.
func (b *binding) fetch(element string) (fetched, error) {
	key := b.node.prefix + element
	if e, isEntity := b.node.entry.(*entity); isEntity && e.inner == nil && !e.open {
		data, err := b.get(key)
		if err != nil || data == nil {
			return fetched{element, nil}, err
		}
		if !mayBeFirstPart(data) {
			return fetched{element, []row{newRow(key, data)}}, nil
		}
	}
	rows, err := b.scan(key, key+upperEnd, 0, false)
	return fetched{element, toRows(rows)}, err
}

func toRows(rows []Row) []row {
	list := make([]row, len(rows))
	for i, r := range rows {
		list[i] = newRow(r.Key, r.Value)
	}
	return list
}

// An iteration loads few rows at first, as many loops end soon, and more with each page.
const (
	firstPageRows = 8
	pageRows      = 256
)

// pages iterates over the stored entries of a collection, a page at a time.
type pages struct {
	bound   *binding
	lo, hi  string // elements that are still to be read
	reverse bool
	limit   int
	done    bool
	loaded  []fetched
	entry   fetched // the current one
	err     error
}

func (b *binding) pages(lo, hi string, reverse bool) pages {
	return pages{bound: b, lo: max(lo, lowerEnd), hi: hi, reverse: reverse, limit: firstPageRows}
}

// next moves to the next entry. It reports false at the end and after an error.
func (p *pages) next() bool {
	if len(p.loaded) == 0 && p.bound != nil && !p.done && p.err == nil {
		p.err = p.load()
	}
	if p.err != nil || len(p.loaded) == 0 {
		return false
	}
	p.entry, p.loaded = p.loaded[0], p.loaded[1:]
	return true
}

func (p *pages) load() error {
	prefix := p.bound.node.prefix
	rows, err := p.bound.scan(prefix+p.lo, prefix+p.hi, p.limit, p.reverse)
	if err != nil {
		return err
	}
	p.done = len(rows) < p.limit
	p.limit = min(4*p.limit, pageRows)
	for _, r := range toRows(rows) {
		key := r.key()
		size := elementLen(key[len(prefix):])
		if size == 0 {
			return p.bound.fail(key, errKind)
		}
		p.add(key[len(prefix):len(prefix)+size], r)
	}
	for i := range p.loaded {
		if p.reverse {
			slices.Reverse(p.loaded[i].rows)
		}
	}
	if p.done {
		return nil
	}
	return p.complete()
}

func (p *pages) add(element string, r row) {
	if n := len(p.loaded); n == 0 || p.loaded[n-1].element != element {
		p.loaded = append(p.loaded, fetched{element: element})
	}
	last := &p.loaded[len(p.loaded)-1]
	last.rows = append(last.rows, r)
}

// complete drops the last entry of a full page, of which rows may be missing; when it is the only one, it is loaded whole.
func (p *pages) complete() error {
	last := len(p.loaded) - 1
	if last > 0 {
		p.loaded = p.loaded[:last]
		last--
	} else {
		e, err := p.bound.fetch(p.loaded[0].element)
		if err != nil {
			return err
		}
		p.loaded[0] = e
	}
	p.lo, p.hi = beyond(p.loaded[last].element, p.lo, p.hi, p.reverse)
	if !p.reverse {
		p.lo = p.loaded[last].element + upperEnd
	}
	return nil
}
