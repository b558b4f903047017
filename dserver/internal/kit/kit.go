// Package kit is for package dservertest alone: it lets that run the types of a program as it likes, by package consumer itself. What a
// definition of package dserver is made of is nobody else's, so that package leaves here what finds it.
package kit

import "github.com/dserver-go/dserver/internal/turn"

// Definitions is what package consumer runs for types of package dserver, which sets it.
var Definitions func(types any) []*turn.Definition
