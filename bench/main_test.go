package main

import (
	"context"
	"os"
	"testing"

	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// TestMain lets the test binary be the children of the program that it tests.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		exit(runChild(context.Background(), role, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// command is a command line whose loads run on a store that is there.
func command(t *testing.T, args ...string) options {
	t.Helper()
	if onPG() {
		t.Setenv("PGTEST_URL", pgtest.URL(t))
	}
	o, err := parse(args)
	if err != nil {
		t.Fatal(err)
	}
	return o
}
