package operate

import (
	"context"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/internal/consumer"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// meddling is a database in whose transactions something happens before each commit.
type meddling struct {
	backend.Database
	meddle func()
}

func (m *meddling) Transact(ctx context.Context, fn func(tx backend.Tx) error) error {
	return m.Database.Transact(ctx, func(tx backend.Tx) error {
		err := fn(tx)
		m.meddle()
		return err
	})
}

// A kill, and a burial, come to their end although somebody sends to the server all the time.
func TestKillEndsAmongSendersThatNeverPause(t *testing.T) {
	db := backendtest.NewModel()
	ref := tenant.Ref{Type: "marked", ID: "a"}
	toil := tenant.Message{Name: "toil", Body: []byte{0xa0}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := 0
	push := func() {
		if err := (consumer.Handle{DB: db, Def: &turn.Definition{Name: ref.Type}, Ref: ref}).Cast(t.Context(), toil, tenant.How{}); err != nil {
			t.Error(err)
		}
		if sent++; sent > 100 {
			cancel()
		}
	}
	push()
	if err := (Server{DB: &meddling{db, push}, Ref: ref}).Kill(ctx); err != nil {
		t.Errorf("after %d messages meanwhile: %v", sent, err)
	}
	if sent > 100 {
		t.Errorf("it ended after %d messages", sent)
	}
}
