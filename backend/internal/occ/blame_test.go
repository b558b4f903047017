package occ

import (
	"errors"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// member is one with statements.
func member() *Tx { return &Tx{statements: make([]backend.Statement, 1)} }

// groupOf begins a group of members that are admitted.
func groupOf(b *Blame, members ...*Tx) (admitted int) {
	b.Begin()
	for _, t := range members {
		t.Result = nil
		if len(t.statements) > 0 && b.Admits(t) {
			b.Took(0, true)
			admitted++
		}
	}
	return admitted
}

func TestBlameIsFoundOneByOne(t *testing.T) {
	refusal := errors.New("refused")
	var b Blame
	plain, first, second := &Tx{}, member(), member()
	if n := groupOf(&b, plain, first, second); n != 2 || !b.Refuse([]*Tx{plain, first, second}, refusal) {
		t.Fatalf("%d admitted", n)
	}
	for i, m := range []*Tx{plain, first, second} {
		if !errors.Is(m.Result, ErrLost) {
			t.Errorf("member %d: %v", i, m.Result)
		}
	}
	if n := groupOf(&b, plain, first, second); n != 1 || !errors.Is(second.Result, ErrLost) {
		t.Errorf("%d admitted; the second: %v", n, second.Result)
	}
	b.Refuse([]*Tx{plain, first, second}, refusal)
	var failed *backend.StatementError
	if !errors.As(first.Result, &failed) || failed.Index != -1 || failed.IsTemporary || !errors.Is(plain.Result, ErrLost) {
		t.Errorf("the one that was alone: %v, the one without: %v", first.Result, plain.Result)
	}
	if n := groupOf(&b, first, second); n != 2 {
		t.Errorf("after it was found %d are admitted", n)
	}
}

func TestBlameIsNotOfWhatHasNoStatements(t *testing.T) {
	var b Blame
	plain := &Tx{}
	if groupOf(&b, plain); b.Refuse([]*Tx{plain}, errors.New("refused")) || plain.Result != nil {
		t.Errorf("%v", plain.Result)
	}
}

func TestStatementsOfAGroupAreBounded(t *testing.T) {
	var b Blame
	b.Begin()
	for range maxExecuting {
		if !b.Admits(member()) {
			t.Fatal("too few")
		}
		b.Took(time.Microsecond, true)
	}
	if m := member(); b.Admits(m) || !errors.Is(m.Result, ErrLost) {
		t.Error("too many")
	}
	b.Begin()
	b.Took(backend.ExecLimit+1, false)
	if b.Admits(member()) {
		t.Error("after one that took long, and failed")
	}
}

// An error of a statement that saw what others of its group wrote stays only if that is committed.
func TestAnErrorThatSawOthersIsDoubtful(t *testing.T) {
	var b Blame
	first, second := member(), member()
	for _, seen := range []bool{false, true} {
		b.Begin()
		if seen {
			b.Took(0, true) // of the first
		}
		b.Fail(second, &backend.StatementError{})
		if second.IsDecided() == seen {
			t.Errorf("decided %v though it has seen others: %v", second.IsDecided(), seen)
		}
	}
	if b.Refuse([]*Tx{first, second}, errors.New("refused")); !errors.Is(second.Result, ErrLost) || errors.Is(first.Result, ErrLost) {
		t.Errorf("the first: %v, the second: %v", first.Result, second.Result)
	}
}
