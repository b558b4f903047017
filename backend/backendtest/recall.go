package backendtest

import (
	"errors"

	"github.com/dserver-go/dserver/backend"
)

// recalling is the facts of stores whose transactions can recall.
func recalling() []check {
	checks := []check{
		{"WhatNobodyChangedNeedsNoRead", recallsUnchanged},
		{"ItIsForTheFirstRunAndBeforeAllElse", recallsFirst},
		{"AStampThatNobodyHasIsNotRecalled", recallsNoStranger},
		{"WhateverDoesNotEndInACommitIsRunAgain", recallsOnlyCommits},
		{"ManyThatRecallLoseNothing", recallsUnderLoad},
	}
	for fact, change := range map[string]func(s *script){
		"ASet":        func(s *script) { s.set("k", "2") },
		"ASetOfNew":   func(s *script) { s.set("l", "2") },
		"AClear":      func(s *script) { s.clear("a", "z") },
		"AnAdd":       func(s *script) { s.tx.Add(key("k"), 1) },
		"AnAppend":    func(s *script) { s.tx.Append(key("k"), nil) },
		"AStamp":      func(s *script) { s.tx.Stamp(key("k")) },
		"WithARecall": func(s *script) { s.tx.Conflict(key("q")); s.set("k", "2") },
	} {
		checks = append(checks, check{"AChangeIsAConflict/" + fact, func(x *trial) { x.recallsChanged(change, true) }})
	}
	checks = append(checks,
		check{"AChangeOfTheCommitItselfIsAConflict", func(x *trial) { x.recallsChanged(func(*script) {}, true, "k") }},
		check{"AChangeOutsideIsNone", func(x *trial) { x.recallsChanged(func(s *script) { s.set("h", "2", "z", "2") }, false) }},
	)
	for i := range checks {
		checks[i].test = recalls(checks[i].test)
	}
	return checks
}

// remembers is what the checks remember: the keys from k on, before z.
func remembers() backend.Range { return between("k", "z") }

// knowing commits writes in a transaction that has that as a conflict, and returns its version.
func (x *trial) knowing(db backend.Database, names ...string) backend.Versionstamp {
	x.Helper()
	v, err := versionOf(x.Context(), db, func(tx backend.Tx) error {
		_, err := tx.GetRange(remembers(), backend.RangeOptions{}).Get()
		for _, name := range append(names, "a") {
			tx.Set(key(name), []byte("1"))
		}
		return err
	})
	if err != nil {
		x.Fatal(err)
	}
	return v
}

// recall is Recall of that, on a store that has it.
func (s *script) recall(v backend.Versionstamp) bool {
	r, ok := s.tx.(backend.Recaller)
	return ok && r.Recall(v, v, remembers())
}

// recalls runs test on a store whose transactions can.
func recalls(test func(x *trial)) func(x *trial) {
	return func(x *trial) {
		var can bool
		x.transact(x.db, func(s *script) { _, can = s.tx.(backend.Recaller) })
		if !can {
			x.Skip("the transactions of this store do not recall")
		}
		test(x)
	}
}

func recallsUnchanged(x *trial) {
	x.set(x.db, "k", "0")
	v, runs := x.knowing(x.db), 0
	for range 3 {
		v = x.versionOf(x.db, func(tx backend.Tx) {
			s := &script{tx: tx}
			if runs++; !s.recall(v) {
				x.Error("not recalled")
			}
			s.set("a", "2")
		})
	}
	if runs != 3 || x.get(x.other, "a") != "2" {
		x.Errorf("three transactions ran %d times, a is %s", runs, x.get(x.other, "a"))
	}
}

// recallsChanged lets change happen after a commit that wrote a and also, and says whether it is a conflict.
func (x *trial) recallsChanged(change func(s *script), isConflict bool, also ...string) {
	x.set(x.db, "k", "00000000")
	v, runs, seen := x.knowing(x.db, also...), 0, ""
	x.transact(x.other, func(s *script) {
		s.set("b", "1") // so that there is always something to commit
		change(s)
	})
	want := x.everything(x.other)
	x.transact(x.db, func(s *script) {
		if runs++; !s.recall(v) {
			seen = s.list(wholeStore(), backend.RangeOptions{})
		}
		s.set("c", "1")
	})
	switch {
	case isConflict && runs < 2:
		x.Error("committed though what it had recalled was changed")
	case isConflict:
		x.expect("what the next run read", seen, want)
	case runs != 1:
		x.Errorf("ran %d times though nothing that it had recalled was changed", runs)
	}
}

func recallsFirst(x *trial) {
	v := x.knowing(x.db)
	for what, before := range map[string]func(s *script){
		"a read":  func(s *script) { s.get("a") },
		"a write": func(s *script) { s.set("a", "2") },
		"another": func(s *script) { s.recall(v) },
	} {
		x.transact(x.db, func(s *script) {
			if before(s); s.recall(v) {
				x.Errorf("recalled after %s", what)
			}
			s.set("a", "3")
		})
	}
}

func recallsNoStranger(x *trial) {
	x.knowing(x.db)
	x.transact(x.db, func(s *script) {
		if s.recall(backend.Versionstamp{}) {
			x.Error("the zero stamp is recalled")
		}
		s.set("a", "2")
	})
}

// What a run made of what it remembers counts only when the commit proves it.
func recallsOnlyCommits(x *trial) {
	for what, first := range map[string]func(s *script) error{
		"a run without writes":     func(*script) error { return nil },
		"a run that reads":         func(s *script) error { s.get("a"); s.set("b", "1"); return nil },
		"a run that reads a range": func(s *script) error { s.list(remembers(), backend.RangeOptions{}); s.set("b", "1"); return nil },
		"a run that fails":         func(s *script) error { s.set("b", "1"); return errors.New("fn's") },
	} {
		v, runs := x.knowing(x.db), 0
		err := x.db.Transact(x.Context(), func(tx backend.Tx) error {
			s := &script{reader: reader{Reader: tx}, tx: tx}
			if runs++; runs == 1 {
				if !s.recall(v) {
					x.Error("not recalled")
				}
				return first(s)
			}
			if s.recall(v) {
				x.Error("recalled in the second run")
			}
			x.expect(what+", b in the next", s.get("b"), absent)
			return s.err
		})
		if err != nil || runs != 2 {
			x.Errorf("%s: %d runs, %v", what, runs, err)
		}
	}
}

// Two handles add to a counter of text. Each remembers it, and whoever writes says so in k: as long as nobody else does,
// no run reads.
func recallsUnderLoad(x *trial) {
	x.set(x.db, "a", "", "k", "")
	const each = 40
	x.each2(func(db backend.Database, name string) error {
		var v backend.Versionstamp
		var value string
		for range each {
			var version backend.Future[backend.Versionstamp]
			var next string
			err := db.Transact(x.Context(), func(tx backend.Tx) error {
				s := &script{reader: reader{Reader: tx}, tx: tx}
				if version = tx.Version(); !v.IsZero() && s.recall(v) {
					next = value + "x"
				} else {
					owner := s.list(remembers(), backend.RangeOptions{})
					next = s.get("a") + "x"
					if owner != "k="+name {
						s.set("k", name)
					}
				}
				s.set("a", next)
				return s.err
			})
			if err != nil {
				return err
			}
			value = next
			if v, err = version.Get(); err != nil {
				return err
			}
		}
		return nil
	})
	if got := len(x.get(x.db, "a")); got != 2*each {
		x.Errorf("%d of %d additions are there", got, 2*each)
	}
}

// each2 runs fn on both handles at once.
func (x *trial) each2(fn func(db backend.Database, name string) error) {
	x.Helper()
	failed := make(chan error, 1)
	go func() { failed <- fn(x.other, "other") }()
	err := errors.Join(fn(x.db, "db"), <-failed)
	if err != nil {
		x.Error(err)
	}
}
