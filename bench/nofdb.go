//go:build !fdb

package main

import (
	"context"
	"errors"
)

const isFDB = false

func sectionsFDB() []section { return nil }

func loadsFDB() []load { return nil }

func beForerunner(context.Context, string) error {
	return errors.New("this program was built without FoundationDB")
}
