package console

import "github.com/dserver-go/dserver/internal/display"

// What tests look at.
var (
	EncodeName, DecodeName = encodeName, decodeName
	Quoted                 = display.Quoted
)
