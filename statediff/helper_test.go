package statediff

import (
	"bytes"
	"flag"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestMain lets small values have an index, which large ones have, so that all tests of values are tests of it, too.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" {
		indexFrom = 4
	}
	m.Run()
}

// fataler is what a test and a property of rapid have in common.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func schemaOf[T any](t fataler) *Schema {
	t.Helper()
	s, err := For(reflect.TypeFor[T]())
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s
}

func diff[T any](t fataler, s *Schema, committed *Rows, v *T) []Edit {
	t.Helper()
	edits, err := s.Diff(committed, v)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return edits
}

// commit brings the rows up to v and returns the edits that did.
func commit[T any](t fataler, s *Schema, committed *Rows, v *T) []Edit {
	t.Helper()
	edits := diff(t, s, committed, v)
	committed.Apply(edits)
	return edits
}

func rowsOf[T any](t fataler, s *Schema, v *T) *Rows {
	t.Helper()
	r := NewRows()
	commit(t, s, r, v)
	return r
}

func decode[T any](t fataler, s *Schema, r *Rows) *T {
	t.Helper()
	v := new(T)
	if err := s.Decode(r, v); err != nil {
		t.Fatalf("%v", err)
	}
	return v
}

func textOf(r *Rows) string {
	var b strings.Builder
	for k, v := range r.All() {
		fmt.Fprintf(&b, "%s = %x\n", Path(k), v)
	}
	return b.String()
}

func textOfEdits(edits []Edit) string {
	var b strings.Builder
	for _, e := range edits {
		fmt.Fprintf(&b, "%s %s %x\n", [...]string{"set", "clear", "clear tree"}[e.Clear], Path(e.Key), e.Value)
	}
	return b.String()
}

// same compares values as a state may come back: nil and empty are the same, times are instants.
func same(a, b reflect.Value) bool {
	switch {
	case a.Type() == reflect.TypeFor[time.Time]():
		return a.Interface().(time.Time).Equal(b.Interface().(time.Time))
	case a.Type() == reflect.TypeFor[big.Int]():
		x, y := a.Interface().(big.Int), b.Interface().(big.Int)
		return x.Cmp(&y) == 0
	}
	switch a.Kind() {
	case reflect.Struct:
		if marshals(a.Type()) {
			return a.Interface() == b.Interface()
		}
		for i := range a.NumField() {
			if g, _ := parseTag(a.Type().Field(i)); !g.skip && !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Pointer:
		return a.IsNil() == b.IsNil() && (a.IsNil() || same(a.Elem(), b.Elem()))
	case reflect.Slice, reflect.Array:
		if a.Kind() == reflect.Slice && a.Type().Elem().Kind() == reflect.Uint8 {
			return bytes.Equal(a.Bytes(), b.Bytes())
		}
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.Len() != b.Len() {
			return false
		}
		for _, k := range a.MapKeys() {
			if w := b.MapIndex(k); !w.IsValid() || !same(a.MapIndex(k), w) {
				return false
			}
		}
		return true
	}
	return a.Interface() == b.Interface()
}

func mustBeSame[T any](t fataler, got, want *T) {
	t.Helper()
	if !same(reflect.ValueOf(got), reflect.ValueOf(want)) {
		t.Fatalf("got  %.2000s\nwant %.2000s", fmt.Sprintf("%+v", *got), fmt.Sprintf("%+v", *want))
	}
}

func mustCount(t testing.TB, edits []Edit, want int) {
	t.Helper()
	if len(edits) != want {
		t.Fatalf("%d edits, want %d:\n%s", len(edits), want, textOfEdits(edits[:min(len(edits), 20)]))
	}
}
