package dserver_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/dserver-go/dserver/dserver"
)

type (
	// Seek is locked work that finds an interface.
	Seek struct {
		How string
		dserver.Returns[string]
	}

	// unsaid is an error whose methods do not work on nil.
	unsaid struct{ text string }
)

func (u *unsaid) Error() string { return u.text }

// What work returns is the user's: a nil interface is a result like others, and an error whose methods panic is a fault.
func TestWorkMayReturnNilOfAnyKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := journals.With(dserver.Settings[Journal]{MaxAttempts: 2}, dserver.HandleLockedCall(
			func(_ *dserver.LockedContext, _ Journal, m Seek) (fmt.Stringer, error) {
				switch m.How {
				case "typed nil":
					var u *unsaid
					return nil, u
				case "nil decision":
					var e *dserver.Error
					return nil, e
				}
				return nil, nil
			},
			func(_ *dserver.Context, _ *Journal, m Seek, found fmt.Stringer) (string, error) {
				return fmt.Sprint(m.How, found == nil), nil
			}))
		store := newStore(t, def)
		db := store.Open()
		run(t, dserver.Consumer{}, db, def)
		for how, want := range map[string]string{
			"typed nil": "dserver/fault", "nil decision": "dserver/fault", "nothing": "nothingtrue",
		} {
			got, err := dserver.Call(within(t), def.At(db, how), Seek{How: how})
			if e, ok := err.(*dserver.Error); ok {
				got = e.Code
			}
			if got != want {
				t.Errorf("%s: %q, %v", how, got, err)
			}
		}
	})
}
