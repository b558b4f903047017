package operate

import (
	"context"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Pin moves the server to the consumers that list a label (package tenant says how).
func (s Server) Pin(ctx context.Context, label string) error {
	if err := tenant.CheckLabel(label); err != nil {
		return err
	}
	ref := s.Ref
	return s.change(ctx, "Pin", func(tx backend.Tx, keys tenant.Keys, act *tenant.Act) error {
		act.Detail = label
		return keys.PinTo(tx, ref, label)
	})
}
