package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// checkCommand compares all that is stored with itself.
type checkCommand struct{}

// Run prints what is wrong, a line each, and fails if anything is. States are only read as far as that is possible
// without their types.
func (*checkCommand) Run(ctx context.Context, t *tool) error {
	err := dserver.Check(ctx, t.db)
	if err == nil {
		return t.out.line(map[string]int{"findings": 0}, "nothing is wrong")
	}
	var all interface{ Unwrap() []error }
	if !errors.Is(err, backend.ErrCorrupt) || !errors.As(err, &all) {
		return err
	}
	findings := all.Unwrap()
	for _, f := range findings {
		if err := t.out.line(map[string]string{"finding": jsonText(f.Error())}, "%v", f); err != nil {
			return err
		}
	}
	return fmt.Errorf("findings: %d", len(findings))
}
