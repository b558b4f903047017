package operate

import (
	"slices"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Check reads servers in pages, many in each, so that it costs a few reads a page and not a dozen a server; and the
// parts of a server that is larger than a page in pages of their own. What has to be elsewhere (a ready mark, a row in
// the index of what is due) is a key that is known, which is looked up in the same snapshot, together with all others
// of its page.

// What a page holds at most.
const (
	checkRows  = 2000
	checkBytes = 1 << 20
)

// glimpse is one snapshot, in which something is expected to be.
type glimpse struct {
	backend.Reader
	pending []expected
	killed  backend.Versionstamp // of the server that is looked at, when its delayed messages are
}

type expected struct {
	found   []backend.Future[[]byte]
	missing error
}

// expect begins to look whether one of some keys is there. When none is, settle returns the error.
func (g *glimpse) expect(missing error, keys ...backend.Key) {
	e := expected{missing: missing}
	for _, key := range keys {
		e.found = append(e.found, g.Get(key))
	}
	g.pending = append(g.pending, e)
}

func (e expected) settle() error {
	for _, found := range e.found {
		if there, err := tenant.IsThere(found); err != nil || there {
			return err
		}
	}
	return e.missing
}

// expectDue expects a row in the index of what is due. Its time is not known of what older versions wrote, and of what
// was damaged: then the row may be anywhere in its shard.
func (g *glimpse) expectDue(ref tenant.Ref, d tenant.Due, part string) error {
	missing := notDue(damage("%q, of kind %d, is not in the index of what is due", d.Name, d.Kind), ref, d, part)
	if d.At != 0 {
		g.expect(missing, d.Key(ref))
		return nil
	}
	there, err := g.isDue(ref, d)
	if err == nil && !there {
		err = missing
	}
	return err
}

// isDue reports whether there is a row in the index of what is due; without a time, at any.
func (g *glimpse) isDue(ref tenant.Ref, d tenant.Due) (bool, error) {
	if d.At != 0 {
		return tenant.IsThere(g.Get(d.Key(ref)))
	}
	shard := tenant.DueShard(tenant.ShardOf(ref))
	for rest := shard.Below(); ; {
		pairs, all, err := g.page(rest)
		if err != nil {
			return false, err
		}
		for _, pair := range pairs {
			if of, row, err := tenant.ParseDue(shard, pair.Key); err == nil && of == ref && row.Kind == d.Kind && row.Name == d.Name {
				return true, nil
			}
		}
		if all {
			return false, nil
		}
		rest.Begin = pairs[len(pairs)-1].Key.Only().End
	}
}

// settle waits for what was expected, and returns the first that is missing.
func (g *glimpse) settle() error {
	for _, e := range g.pending {
		if err := e.settle(); err != nil {
			return err
		}
	}
	return nil
}

// page reads the first pairs of a range, and reports whether they are all of it.
func (g *glimpse) page(r backend.Range) (pairs []backend.KeyValue, all bool, err error) {
	pairs, err = g.GetRange(r, backend.RangeOptions{Limit: checkRows, Bytes: checkBytes, Snapshot: true}).Get()
	return pairs, len(pairs) < checkRows && tenant.BytesOf(pairs) < checkBytes, err
}

// same runs fn in this snapshot. What is expected is waited for when it becomes much.
func (g *glimpse) same(fn func(*glimpse) error) error {
	if err := fn(g); err != nil || len(g.pending) < checkRows {
		return err
	}
	err := g.settle()
	g.pending = nil
	return err
}

// read runs fn in a snapshot of its own.
func (c *checker) read(fn func(*glimpse) error) error {
	return c.db.Read(c.ctx, func(tx backend.ReadTx) error {
		g := &glimpse{Reader: tx}
		if err := fn(g); err != nil {
			return err
		}
		return g.settle()
	})
}

// remembered is a snapshot of which all pairs of a range are known.
type remembered struct {
	backend.Reader
	all   backend.Range
	pairs []backend.KeyValue
}

func (r remembered) from(k backend.Key) int {
	n, _ := slices.BinarySearchFunc(r.pairs, k, func(p backend.KeyValue, k backend.Key) int { return p.Key.Compare(k) })
	return n
}

// Get is a Reader's.
func (r remembered) Get(key backend.Key) backend.Future[[]byte] {
	if !r.all.Contains(key) {
		return r.Reader.Get(key)
	}
	at := r.from(key)
	if at == len(r.pairs) || r.pairs[at].Key.Compare(key) != 0 {
		return backend.Ready[[]byte](nil, nil)
	}
	return backend.Ready(append([]byte{}, r.pairs[at].Value...), nil) // never nil: it is there
}

// GetRange is a Reader's.
func (r remembered) GetRange(of backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	if o.Reverse || of.Begin.Compare(r.all.Begin) < 0 || of.End.Compare(r.all.End) > 0 || of.IsEmpty() {
		return r.Reader.GetRange(of, o)
	}
	found := r.pairs[r.from(of.Begin):r.from(of.End)]
	if o.Limit > 0 {
		found = found[:min(len(found), o.Limit)]
	}
	for i, bytes := 0, 0; o.Bytes > 0 && i < len(found); i++ {
		if bytes += len(found[i].Key) + len(found[i].Value); bytes >= o.Bytes {
			found = found[:i+1]
		}
	}
	return backend.Ready(found, nil)
}

// serverPage is what was found in a page of servers.
type serverPage struct {
	findings []finding
	large    tenant.Ref // a server that does not fit into a page
	rest     backend.Range
}

type finding struct {
	at  any
	err error
}

// servers checks all servers, in the order of their keys.
func (c *checker) servers(prefix backend.Key) error {
	for rest := prefix.Below(); !rest.IsEmpty(); {
		var page serverPage
		err := c.db.Read(c.ctx, func(tx backend.ReadTx) (err error) {
			page, err = c.serverPage(tx, prefix, rest)
			return err
		})
		if err != nil {
			return c.note(prefix, err)
		}
		for _, f := range page.findings {
			if err := c.note(f.at, f.err); err != nil {
				return err
			}
		}
		if page.large != (tenant.Ref{}) {
			if err := c.server(page.large); err != nil {
				return err
			}
		}
		rest = page.rest
	}
	return nil
}

// serverPage checks the servers with which a range begins, in one snapshot.
func (c *checker) serverPage(tx backend.Reader, prefix backend.Key, rest backend.Range) (p serverPage, err error) {
	pairs, all, err := (&glimpse{Reader: tx}).page(rest)
	if err != nil {
		return p, err
	}
	var looks []look
	for isFirst := true; len(pairs) > 0; isFirst = false {
		ref, err := serverOf(prefix, pairs[0].Key)
		if err != nil {
			p.findings = append(p.findings, finding{pairs[0].Key, err})
			rest.Begin, pairs = pairs[0].Key.Only().End, pairs[1:]
			continue
		}
		tree := tenant.KeysOf(ref).Key.Tree()
		n := countBelow(tenant.KeysOf(ref).Key, pairs)
		if n == len(pairs) && !all { // it may not be whole
			if isFirst {
				p.large, rest.Begin = ref, tree.End
			}
			break
		}
		found, err := c.looksAt(remembered{tx, tree, pairs[:n]}, ref)
		if err != nil {
			return p, err
		}
		looks = append(looks, found...)
		rest.Begin, pairs = tree.End, pairs[n:]
	}
	if p.rest = rest; all {
		p.rest = backend.Range{}
	}
	for _, l := range looks {
		if err := l.add(&p); err != nil {
			return p, err
		}
	}
	return p, nil
}

// look is a part of a server that was looked at, and may expect something elsewhere.
type look struct {
	glimpse *glimpse
	at      place
	err     error
}

// looksAt checks the parts of a server that is remembered whole.
func (c *checker) looksAt(r remembered, ref tenant.Ref) (looks []look, err error) {
	err = tenant.Children(r, tenant.KeysOf(ref).Key, func(name string) error {
		if c.parts[name] == nil {
			looks = append(looks, look{&glimpse{}, place{ref: ref}, strange(name)})
		}
		return nil
	})
	if isFinding(err) {
		looks, err = append(looks, look{&glimpse{}, place{ref: ref}, err}), nil
	}
	for _, name := range partNames {
		g := &glimpse{Reader: r}
		looks = append(looks, look{g, place{ref, name}, c.parts[name](g, ref)})
	}
	return looks, err
}

// add waits for what is expected, and notes what is wrong.
func (l look) add(p *serverPage) error {
	err := l.err
	if err == nil {
		err = l.glimpse.settle()
	}
	if isFinding(err) {
		p.findings = append(p.findings, finding{l.at, err})
		return nil
	}
	return err
}

// serverOf is the server to which a key belongs.
func serverOf(prefix, key backend.Key) (tenant.Ref, error) {
	rest, _ := key.CutPrefix(prefix)
	elements, err := rest.Elements()
	if err == nil && len(elements) > 2 {
		typ, isType := elements[0].(string)
		id, isID := elements[1].(string)
		if isType && isID {
			return tenant.Ref{Type: typ, ID: id}, nil
		}
	}
	return tenant.Ref{}, damage("%v belongs to no server", key)
}
