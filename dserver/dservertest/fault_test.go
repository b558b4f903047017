package dservertest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
)

var errNever = &dserver.Error{Code: "never", Text: "no"}

type Deny struct{}

var denials = memos.With(dserver.HandleCast(func(*dserver.Context, *Memo, Deny) error { return errNever }))

func TestEachFaultOfAProgramLosesAndDoublesNothing(t *testing.T) {
	crashed, met := 0, map[string]bool{}
	dservertest.EachFault(t, func(t *testing.T, f *dservertest.Faults) {
		f.Start(denials)
		tries := 0
		do := func(m any, opts ...dserver.Option) error {
			return f.Do(func(ctx context.Context, db backend.Database) error {
				tries++
				return denials.At(db, "a").Call(ctx, m, nil, opts...)
			})
		}
		must(t, do(Line{"one"}, dserver.Once("1")))
		must(t, do(Line{"two"}, dserver.Once("2")))
		if err := do(Deny{}); !errors.Is(err, errNever) {
			t.Errorf("%v: %v", f, err)
		}
		must(t, f.Do(func(ctx context.Context, db backend.Database) error {
			s, err := memos.At(db, "a").State(ctx)
			if err == nil && fmt.Sprint(s.Lines) != "[one two]" {
				t.Errorf("%v: %v", f, s.Lines)
			}
			return err
		}))
		met[f.String()] = true
		if tries > 3 {
			crashed++
		}
	})
	if len(met) < 20 || crashed < 5 {
		t.Errorf("only %d runs, and in %d of them something had to be tried again", len(met), crashed)
	}
}

func TestChaosIsSurvivedByManySenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := dservertest.Chaos(t, 0.05, memos)
		const senders, each = 8, 10
		done := make(chan struct{})
		for i := range senders {
			go func() {
				defer func() { done <- struct{}{} }()
				for j := range each {
					name := fmt.Sprint(i, "-", j)
					_ = f.Do(func(ctx context.Context, db backend.Database) error {
						return memos.At(db, "a").Cast(ctx, Line{name}, dserver.Once(name))
					})
				}
			}()
		}
		for range senders {
			<-done
		}
		f.Settle()
		must(t, f.Do(func(ctx context.Context, db backend.Database) error {
			s, err := memos.At(db, "a").State(ctx)
			slices.Sort(s.Lines)
			if got := slices.Compact(slices.Clone(s.Lines)); err == nil && (len(got) != senders*each || len(s.Lines) != len(got)) {
				t.Errorf("%d lines, %d of them different", len(s.Lines), len(got))
			}
			return err
		}))
	})
}
