package main

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// finding is what is wrong, and what can be done or was done, as JSON has it.
type finding struct {
	Finding string `json:"finding"`
	Place   string `json:"place"`
	How     string `json:"how,omitempty"` // what repair does
	Mended  bool   `json:"mended,omitempty"`
	Advice  string `json:"advice,omitempty"` // what a person can do, where repair does nothing
}

func newFinding(r dserver.Repaired) finding {
	return finding{Finding: jsonText(r.Finding.Error()), Place: jsonName(r.Place), How: r.How, Mended: r.Mended, Advice: r.Advice}
}

// checkCommand compares all that is stored with itself.
type checkCommand struct{}

// maxFindings is how many findings are printed of a database that is thoroughly wrong.
const maxFindings = 100

// Run prints what is wrong and what to do, and fails if anything is. States are only read as far as that is possible
// without their types.
func (*checkCommand) Run(ctx context.Context, t *tool) error {
	found := 0
	for r, err := range dserver.RepairPlan(ctx, t.db) {
		if err != nil {
			return err
		}
		if found++; found > maxFindings {
			return fmt.Errorf("findings: more than %d", maxFindings)
		}
		if err := t.printFinding(r, "%s repair would %s", t.self(), r.How); err != nil {
			return err
		}
	}
	if found > 0 {
		return fmt.Errorf("findings: %d", found)
	}
	return t.out.line(map[string]int{"findings": 0}, "nothing is wrong")
}

// printFinding prints a finding, and below it what repair does, or what a person can do.
func (t *tool) printFinding(r dserver.Repaired, does string, args ...any) error {
	if r.How == "" {
		does, args = "%s", []any{r.Advice}
	}
	return t.out.line(newFinding(r), "%s: %v\n  "+does, append([]any{r.Place, alarm{r.Finding, !r.Mended}}, args...)...)
}

// repairCommand mends what check finds, where that is safe.
type repairCommand struct {
	DryRun bool `help:"Say what would be done, and do nothing."`
}

// Run mends one finding after the other, each in a transaction of its own, and fails if any is left.
func (c *repairCommand) Run(ctx context.Context, t *tool) error {
	repair, does := dserver.Repair, "mended: %s"
	if c.DryRun {
		repair, does = dserver.RepairPlan, "would %s"
	}
	mended, planned, left := 0, 0, 0
	for r, err := range repair(ctx, t.db) {
		if err != nil {
			return err
		}
		switch {
		case r.Mended:
			mended++
		case r.How != "" && c.DryRun:
			planned++
		default:
			left++
		}
		shown := does
		if r.How != "" && !r.Mended && !c.DryRun {
			shown = "not mended, as it is there again: %s"
		}
		if err := t.printFinding(r, shown, r.How); err != nil {
			return err
		}
	}
	switch {
	case left > 0:
		return fmt.Errorf("findings that cannot be mended safely: %d; mended: %d", left, mended)
	case planned > 0:
		return t.out.line(map[string]int{"planned": planned}, "would be mended: %d", planned)
	}
	return t.out.line(map[string]int{"mended": mended}, "mended: %d", mended)
}
