package dserver

import (
	"context"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/operate"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Act is something that an operator did to a server, who said who it was (WithActor).
type Act struct {
	Stamp   backend.Versionstamp // its place in the order of commits
	At      time.Time            // by the clock of the operator
	By      string
	Verb    string // the method: "Withdraw", "SetState"
	Ref     Ref
	Message backend.Versionstamp // the stamp of the message that it was about; zero: none
	Detail  string               // a label, a path in the state, the id of what was delayed
	Before  *Kept                // what was there; nil when there is nothing to tell
	After   *Kept
}

// Kept is a message, or a value of a state, as it was or is.
type Kept struct {
	Message     // without a Name it is a value
	Bytes   int // how large it is: what is larger than 16 KiB is kept without its Body
}

func publicAct(a operate.Act) Act {
	return Act{
		Stamp: a.Stamp, At: time.UnixMilli(a.At), By: a.By, Verb: a.Verb, Ref: Ref(a.Ref), Message: a.Act.Stamp, Detail: a.Detail,
		Before: publicKept(a.Before), After: publicKept(a.After),
	}
}

func publicKept(k *tenant.Kept) *Kept {
	if k == nil {
		return nil
	}
	return &Kept{Message: Message{Name: k.Name, Body: k.Body}, Bytes: k.Bytes}
}

// Audit yields what operators did, the latest first. An error ends it. It reads page by page, so the loop may take its time.
// Acts are kept for 90 days, and then removed by later ones. Whoever can write the database can change them: they are a memory,
// and no proof.
func Audit(ctx context.Context, db backend.Database) iter.Seq2[Act, error] {
	return func(yield func(Act, error) bool) {
		if err := refuseTurn(ctx, "Audit"); err != nil {
			yield(Act{}, err)
			return
		}
		for a, err := range operate.Acts(ctx, plain(db)) {
			if err != nil {
				yield(Act{}, public(err))
				return
			}
			if !yield(publicAct(a), nil) {
				return
			}
		}
	}
}
