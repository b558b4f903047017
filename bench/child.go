package main

import (
	"context"
	"fmt"
)

// roleVariable in the environment makes this program its own child.
const roleVariable = "DSERVER_BENCH_ROLE"

// runChild does what a child is for.
func runChild(ctx context.Context, role string, args []string) error {
	return fmt.Errorf("no child is called %q (%v, %v)", role, args, ctx.Err())
}
