package main

import (
	"context"
	"os"
	"testing"
)

// TestMain lets the test binary be the children of the program that it tests.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		exit(runChild(context.Background(), role, os.Args[1:]))
	}
	os.Exit(m.Run())
}
