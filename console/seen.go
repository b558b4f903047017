package console

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/dserver-go/dserver/dserver"
)

// seenAs names a message as it is, for the form that changes it: what was changed meanwhile has another name.
func seenAs(m dserver.Message) string {
	h := sha256.New()
	h.Write([]byte(m.Name))
	h.Write([]byte{0})
	h.Write(m.Body)
	return hex.EncodeToString(h.Sum(nil))
}
