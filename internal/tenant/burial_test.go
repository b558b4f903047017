package tenant

import (
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
)

// A burial that finds its server killed again begins anew: what the next server was sent in the meantime may be where
// the burial has already been.
func TestBurialBeginsAnewWhenItsServerIsKilledAgain(t *testing.T) {
	db := backendtest.NewModel()
	ref := Ref{"marked", "a"}
	keys := KeysOf(ref)
	transact := func(fn func(tx backend.Tx) error) {
		t.Helper()
		if err := db.Transact(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	var b burial
	page := func() {
		t.Helper()
		var next burial
		transact(func(tx backend.Tx) (err error) {
			next, err = b.page(tx, ref)
			return err
		})
		b = next
	}
	for range 2 {
		namesMade.Store(0) // as another process's names may: these stand among those of before
		for range 2 * maxDelayedRows {
			p := NewParcel(ref, How{After: time.Hour}, NewEnvelope(Message{Name: "toil", Body: []byte{0xa0}}, ""))
			transact(p.Write)
		}
		transact(func(tx backend.Tx) error {
			_, err := Kill(tx, keys, ref, false)
			return err
		})
		page()
	}
	for !b.done {
		page()
	}
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		left, err := tx.GetRange(keys.Key.Tree(), backend.RangeOptions{}).Get()
		for _, pair := range left {
			t.Errorf("left: %v", pair.Key)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
