package operate

import (
	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
)

// LoadOf is what the consumers of this process have in hand.
func LoadOf(db backend.Database) mailbox.Load { return mailbox.Of(db).Load() }
