package dserver

import (
	"context"
	"iter"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/operate"
)

// Repaired is a finding of Check, and what became of it.
type Repaired struct {
	Place   string // where it is: a server, a process, a key
	Ref     Ref    // the server that it is about; zero when it is about none
	Finding error  // as Check has it
	How     string // what mends it; "" when that is not safe
	Mended  bool   // it is mended; of a plan, false
	Advice  string // what a person can do, when How is ""
}

// Repair checks all that is stored in db, as Check does without types, and mends what it finds where that is safe beside
// consumers: what leads them to a server is set anew, what only tells of something that is gone is removed, and counters are
// corrected. It touches no message that can be read, no state and no lock, and nothing that a newer version of the library may
// have written; of these it yields what a person can do.
//
// Each mend is a transaction that looks for the finding again, and is written down when ctx has an actor (WithActor), with the
// verb "Repair". What another one has mended meanwhile is not yielded. It may be run again, and ends when nothing is left that it
// can mend, or after 10,000 findings that it cannot. An error ends it; the loop may end it, too, after the finding that it was
// given.
func Repair(ctx context.Context, db backend.Database) iter.Seq2[Repaired, error] {
	return repaired(ctx, db, "Repair", false)
}

// RepairPlan yields what Repair would begin with, and changes nothing. A finding may hide another one of its server, which shows
// when that is mended.
func RepairPlan(ctx context.Context, db backend.Database) iter.Seq2[Repaired, error] {
	return repaired(ctx, db, "RepairPlan", true)
}

func repaired(ctx context.Context, db backend.Database, verb string, plans bool) iter.Seq2[Repaired, error] {
	return func(yield func(Repaired, error) bool) {
		if err := refuseTurn(ctx, verb); err != nil {
			yield(Repaired{}, err)
			return
		}
		actor, _ := ctx.Value(actorKey{}).(string)
		for r, err := range operate.Repairs(ctx, plain(db), actor, plans) {
			if err != nil {
				yield(Repaired{}, public(err))
				return
			}
			if !yield(Repaired{r.Place, Ref(r.Ref), public(r.Finding), r.How, r.Mended, r.Advice}, nil) {
				return
			}
		}
	}
}
