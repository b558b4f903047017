package dserver

import (
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/chunk"
	"github.com/dserver-go/dserver/statediff"
)

// genericState is a state without its Go type: nested maps by the elements of the rows' keys.
func genericState[S any](rows *statediff.Rows) (S, error) {
	var none S
	root := map[any]any{}
	_ = root
	_ = chunk.Bytes
	_ = backend.ErrCorrupt
	return none, fmt.Errorf("dserver: not yet")
}
