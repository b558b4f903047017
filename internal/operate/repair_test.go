package operate

import (
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/internal/consumer"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// Of two repairs that correct one counter at once the second finds nothing to correct, and who pushes meanwhile is in nobody's
// way.
func TestTwoRepairsCorrectACounterOnce(t *testing.T) {
	db := backendtest.NewModel()
	ref := tenant.Ref{Type: "marked", ID: "a"}
	push := func() {
		t.Helper()
		handle := consumer.Handle{DB: db, Def: &turn.Definition{Name: ref.Type}, Ref: ref}
		if err := handle.Cast(t.Context(), tenant.Message{Name: "toil", Body: []byte{0xa0}}, tenant.How{}); err != nil {
			t.Fatal(err)
		}
	}
	push()
	keys := tenant.KeysOf(ref)
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		keys.Queue().Correct(tx, 5)
		tx.Add(keys.Dead(), 3)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	mend := func(db backend.Database) (mended int) {
		for r, err := range Repairs(t.Context(), db, "", false) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Mended {
				mended++
			}
		}
		return mended
	}
	runs, mended := 0, 0
	mended += mend(&meddling{db, func() {
		if runs++; runs == 1 { // in the middle of the first mend
			push()
			mended += mend(db)
		}
	}})
	if mended != 2 {
		t.Errorf("%d counters were corrected", mended)
	}
	found, err := Check(t.Context(), db, nil)
	if err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	if runs < 2 {
		t.Errorf("the first mend ran %d times", runs)
	}
}
