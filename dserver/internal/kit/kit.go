// Package kit is for package dservertest alone: it lets that run the types of a program as it likes, by package consumer itself. What a
// definition of package dserver is made of is nobody else's, so that package leaves here what finds it.
package kit

import (
	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/turn"
)

// Definitions is what package consumer runs for types of package dserver, which sets it.
var Definitions func(types any) []*turn.Definition

// Inside is the database in one with interceptors, and these as package consumer takes them; nil for none. Package dserver sets it.
var Inside func(db backend.Database) (inner backend.Database, hooks turn.Hooks)
