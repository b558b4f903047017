package operate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Repair is Check that mends what it finds, where that is safe beside consumers. What is safe:
//
//  1. What leads somebody to look can be written blindly: a ready mark, a row in the index of what is due or in that of
//     trouble. Who comes in vain removes it.
//  2. What only says something of what is gone can be removed, in a transaction with its being gone as a conflict: attempts, a
//     reason, a stamp, a claim, the mail of a process without a record, rows of a value that have lost their first one.
//  3. A counter is corrected by the difference that one snapshot shows. Whoever pushes or removes meanwhile adds to both
//     sides of it, so it stays right; two repairs at once conflict (recounted).
//
// Nothing else is touched: no message, no state, no lock, and nothing that a newer version of the library may have written.
//
// | dies | what is left |
// |---|---|
// | before a mend's commit | the finding: it is run again |
// | after it | what was mended, and its act |

// Repair is a finding, and what became of it.
type Repair struct {
	Place   string     // as in the finding
	Ref     tenant.Ref // the server that it is about, if it is about one
	Finding error
	How     string // what mends it; "" when a person has to decide
	Mended  bool
	Advice  string // what a person can do, where How is ""
}

// Repairs reads all that is stored as Check does, and mends what it can. When plans is set it mends nothing, and says what it
// would do.
func Repairs(ctx context.Context, db backend.Database, actor string, plans bool) iter.Seq2[Repair, error] {
	return func(yield func(Repair, error) bool) {
		r := &repairer{actor: actor, plans: plans, yield: yield}
		r.checker = checker{ctx: ctx, db: db}
		r.parts, r.tell = r.ofServer(), r.found
		err := r.all()
		if err == nil && !plans {
			err = r.tidy()
		}
		if err != nil && !errors.Is(err, errEnough) {
			yield(Repair{}, fmt.Errorf("dserver: repair: %w", err))
		}
	}
}

type repairer struct {
	checker
	actor string
	plans bool
	yield func(Repair, error) bool
	told  int // findings that were not mended
}

// found mends a finding, and what is behind it in its part of a server: a part tells one at a time.
func (r *repairer) found(at any, err error) error {
	for last := ""; ; {
		fix := repairOf(at, err)
		isSame := err.Error() == last // it was mended, and is there again
		last = err.Error()
		gone := false
		if fix.How != "" && !r.plans && !isSame {
			done, failed := r.do(fix, err)
			switch {
			case isFinding(failed): // something else is in its way
				fix.How, fix.Advice = "", adviceFor(at)
			case failed != nil:
				return failed
			default:
				fix.Mended, gone = done, !done
			}
		}
		if !gone && !r.yield(fix, nil) {
			return errEnough
		}
		if !fix.Mended && !gone {
			if r.told++; r.told >= maxLeft {
				return errEnough
			}
			return nil
		}
		p, isServer := at.(place)
		if !isServer || p.part == "" {
			return nil
		}
		if err = r.part(p.part, p.ref); !isFinding(err) {
			return err
		}
		if gone && err.Error() == last {
			return nil // it comes and goes; another run finds it
		}
	}
}

// maxLeft bounds what is told of a database that is thoroughly wrong.
const maxLeft = 10_000

func repairOf(at any, err error) Repair {
	fix := Repair{Place: fmt.Sprint(at), Finding: err}
	if p, isServer := at.(place); isServer {
		fix.Ref = p.ref
	}
	var f flaw
	if errors.As(err, &f) {
		fix.How = f.mend.how
		if f.mend.ref != (tenant.Ref{}) {
			fix.Ref = f.mend.ref
		}
		return fix
	}
	fix.Advice = adviceFor(at)
	return fix
}

// do mends one finding in a transaction of its own, which is written down.
func (r *repairer) do(fix Repair, finding error) (done bool, err error) {
	var f flaw
	errors.As(finding, &f)
	act := tenant.Act{At: time.Now().UnixMilli(), By: r.actor, Verb: "Repair", Ref: fix.Ref, Detail: fix.How + ": " + finding.Error()}
	err = r.db.Transact(r.ctx, func(tx backend.Tx) error {
		a := act
		is, err := f.mend.do(tx, &a)
		if err == nil && is && r.actor != "" {
			err = tenant.WriteAct(tx, a)
		}
		done = is
		return err
	})
	if err == nil && done && fix.Ref != (tenant.Ref{}) {
		mailbox.Of(r.db).Wake(fix.Ref)
	}
	return done && err == nil, err
}

// tidy removes the rows of the index of trouble whose servers have none. They are no finding: whoever lists trouble does the same.
func (r *repairer) tidy() error {
	_, err := eachServer(r.ctx, r.db, backend.NewKey(tenant.KeyTrouble), ofTrouble, func(ref tenant.Ref) (bool, error) {
		err := r.db.Transact(r.ctx, func(tx backend.Tx) error { return tenant.ClearTrouble(tx, ref) })
		if isFinding(err) { // it was told
			err = nil
		}
		return err == nil, err
	})
	return err
}
