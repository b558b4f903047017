package dserver

import (
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/statediff"
)

// genericState is a state without its Go type: maps and slices, of whatever statediff.Generic makes of the rows.
func genericState[S any](rows *statediff.Rows) (S, error) {
	var none S
	value, err := statediff.Generic(rows)
	if err != nil {
		return none, fmt.Errorf("%w: %w", backend.ErrCorrupt, err)
	}
	if value == nil {
		return none, nil
	}
	s, ok := value.(S)
	if !ok {
		return none, fmt.Errorf("dserver: a state without a definition is a %T, not a %T", value, none)
	}
	return s, nil
}
