package backendtest

import (
	"context"
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
)

// Random histories, step by step, compared with a plain map after every step.
func machines() []check {
	return []check{{"AgreesWithAMap", agreesWithMap}}
}

func agreesWithMap(x *trial) {
	runs := 0
	rapid.Check(x.T, func(t *rapid.T) {
		runs++                                                        // each run has keys of its own, since a fresh store for each would cost a file each
		ctx, cancel := context.WithTimeout(x.T.Context(), 3*patience) // a hundred histories take longer, where commits do
		defer cancel()
		m := &machine{T: t, ctx: ctx, x: x, space: space{backend.NewKey("run", runs)}, want: make(oracle)}
		t.Repeat(map[string]func(*rapid.T){
			"transact": m.transact,
			"abort":    m.abort,
			"read":     m.read,
			"race":     m.race,
			"":         m.check,
		})
	})
}

// machine is one random history.
type machine struct {
	*rapid.T
	ctx   context.Context
	x     *trial
	space space
	want  oracle
}

func (m *machine) choose(t *rapid.T) chooser {
	return func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
}

// handles draws which handle acts, and which is the other.
func (m *machine) handles(t *rapid.T) (acting, other backend.Database) {
	if rapid.Bool().Draw(t, "the other handle") {
		return m.x.other, m.x.db
	}
	return m.x.db, m.x.other
}

// outcome is a transaction that was committed.
type outcome struct {
	results []string
	version backend.Versionstamp // zero when it wrote nothing
	runs    int
}

// do commits a transaction; meanwhile runs once, in its first run after its last step.
func (m *machine) do(db backend.Database, os ops, meanwhile func()) (o outcome) {
	var version backend.Future[backend.Versionstamp]
	err := db.Transact(m.ctx, func(tx backend.Tx) (err error) {
		if o.results, err = os.on(tx); err != nil {
			return err
		}
		switch o.runs++; {
		case o.runs == 1:
			meanwhile()
		case o.runs > mostRuns:
			return fmt.Errorf("%v lost %d races", os, mostRuns)
		}
		version = tx.Version()
		return nil
	})
	if err != nil {
		m.Fatal(err)
	}
	if o.version, err = version.Get(); err != nil && os.write() {
		m.Fatalf("version of %v: %v", os, err)
	}
	return o
}

func (m *machine) compare(os ops, got, want []string) {
	for i := range os {
		if got[i] != want[i] {
			m.Fatalf("%v\nin %v\ngot  %s\nwant %s", os[i], os, got[i], want[i])
		}
	}
}

func (m *machine) transact(t *rapid.T) {
	db, _ := m.handles(t)
	os := m.space.transaction(m.choose(t), 8)
	o := m.do(db, os, func() {})
	m.compare(os, o.results, m.want.apply(os, o.version))
}

func (m *machine) abort(t *rapid.T) {
	db, _ := m.handles(t)
	os := m.space.transaction(m.choose(t), 8)
	err := db.Transact(m.ctx, func(tx backend.Tx) error {
		if _, err := os.on(tx); err != nil {
			return err
		}
		return errRefused
	})
	if err != errRefused {
		m.Fatal(err)
	}
}

func (m *machine) read(t *rapid.T) {
	db, _ := m.handles(t)
	where, options := m.space.someRange(m.choose(t)), options(m.choose(t))
	options.Snapshot = rapid.Bool().Draw(t, "snapshot")
	var got string
	err := db.Read(m.ctx, func(tx backend.ReadTx) error {
		found, err := tx.GetRange(where, options).Get()
		got = shownPairs(found)
		return err
	})
	if want := m.want.list(where, options); err != nil || got != want {
		m.Fatalf("range %v %+v: %v\ngot  %s\nwant %s", where, options, err, got, want)
	}
}

// race commits one transaction amid another. The other either saw none of it in what it read, or runs again and sees
// it; if it writes nothing, it saw what was there before.
func (m *machine) race(t *rapid.T) {
	db, other := m.handles(t)
	slow, quick := m.space.transaction(m.choose(t), 6), m.space.transaction(m.choose(t), 4)
	before := oracle{}
	o := m.do(db, slow, func() {
		for key, value := range m.want {
			before[key] = value
		}
		won := m.do(other, quick, func() {})
		m.compare(quick, won.results, m.want.apply(quick, won.version))
	})
	if !slow.write() && o.runs == 1 && slices.Equal(o.results, before.apply(slow, o.version)) {
		return
	}
	m.compare(slow, o.results, m.want.apply(slow, o.version))
}

// check compares all keys, through both handles.
func (m *machine) check(*rapid.T) {
	want := m.want.list(m.space.root.Tree(), backend.RangeOptions{})
	for i, db := range []backend.Database{m.x.db, m.x.other} {
		err := db.Read(m.ctx, func(tx backend.ReadTx) error {
			found, err := tx.GetRange(m.space.root.Tree(), backend.RangeOptions{}).Get()
			if got := shownPairs(found); err == nil && got != want {
				err = fmt.Errorf("\ngot  %s\nwant %s", got, want)
			}
			return err
		})
		if err != nil {
			m.Fatalf("handle %d: %v", i, err)
		}
	}
}
