package backendtest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/backend"
)

// trial is one check under way: a fresh store, and two handles as of two processes.
type trial struct {
	*testing.T
	ctx       context.Context
	open      func() backend.Database
	db, other backend.Database
}

func newTrial(t *testing.T, open Opener) *trial {
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	x := &trial{T: t, ctx: ctx, open: open(t)}
	x.db, x.other = x.open(), x.open()
	return x
}

// Context ends a transaction that would otherwise run again for ever.
func (x *trial) Context() context.Context { return x.ctx }

// expect compares what should be equal, in words.
func (x *trial) expect(what, got, want string) {
	x.Helper()
	if got != want {
		x.Errorf("%s: got %s, want %s", what, got, want)
	}
}

// transact runs fn in a transaction that must succeed.
func (x *trial) transact(db backend.Database, fn func(s *script)) {
	x.Helper()
	if err := transact(x.Context(), db, fn); err != nil {
		x.Fatalf("transact: %v", err)
	}
}

// read runs fn in a snapshot that must succeed.
func (x *trial) read(db backend.Database, fn func(r *reader)) {
	x.Helper()
	err := db.Read(x.Context(), func(tx backend.ReadTx) error {
		r := &reader{Reader: tx}
		fn(r)
		return r.err
	})
	if err != nil {
		x.Fatalf("read: %v", err)
	}
}

// set writes pairs, given as name, value, name, value.
func (x *trial) set(db backend.Database, pairs ...string) {
	x.Helper()
	x.transact(db, func(s *script) { s.set(pairs...) })
}

// get reads one value.
func (x *trial) get(db backend.Database, name string) (value string) {
	x.Helper()
	x.read(db, func(r *reader) { value = r.get(name) })
	return value
}

// everything is all that the store has.
func (x *trial) everything(db backend.Database) (all string) {
	x.Helper()
	x.read(db, func(r *reader) { all = r.list(wholeStore(), backend.RangeOptions{}) })
	return all
}

// mostRuns is how often a transaction of the suite may lose. One that always does ends the check before its time limit.
const mostRuns = 1000

func transact(ctx context.Context, db backend.Database, fn func(s *script)) error {
	runs := 0
	return db.Transact(ctx, func(tx backend.Tx) error {
		if runs++; runs > mostRuns {
			return fmt.Errorf("the transaction lost %d races", mostRuns)
		}
		s := &script{reader: reader{Reader: tx}, tx: tx}
		fn(s)
		return s.err
	})
}

// reader reads names and values as words, and keeps the first error.
type reader struct {
	backend.Reader
	err error
}

const absent = "(absent)"

func (r *reader) get(name string) string {
	value, err := r.Get(key(name)).Get()
	r.keep(err)
	if value == nil {
		return absent
	}
	return string(value)
}

func (r *reader) list(where backend.Range, o backend.RangeOptions) string {
	found, err := r.GetRange(where, o).Get()
	r.keep(err)
	return words(found)
}

func (r *reader) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

// script is a transaction that reads and writes words.
type script struct {
	reader
	tx backend.Tx
}

func (s *script) set(pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		s.tx.Set(key(pairs[i]), []byte(pairs[i+1]))
	}
}

func (s *script) clear(begin, end string) { s.tx.Clear(between(begin, end)) }

func key(name string) backend.Key { return backend.NewKey(name) }

func between(begin, end string) backend.Range { return backend.Range{Begin: key(begin), End: key(end)} }

func wholeStore() backend.Range { return backend.Range{Begin: backend.Key{}, End: backend.Key{0xff}} }

// words shows pairs as name=value. Versionstamps are shown as #.
func words(pairs []backend.KeyValue) string {
	shown := make([]string, len(pairs))
	for i, p := range pairs {
		shown[i] = name(p.Key) + "=" + string(p.Value)
	}
	return strings.Join(shown, " ")
}

func name(k backend.Key) string {
	elements, err := k.Elements()
	if err != nil {
		return k.String()
	}
	shown := make([]string, len(elements))
	for i, e := range elements {
		shown[i] = fmt.Sprint(e)
		if _, ok := e.(backend.Versionstamp); ok {
			shown[i] = "#"
		}
	}
	return strings.Join(shown, "/")
}
