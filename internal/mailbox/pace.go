package mailbox

import (
	mathrand "math/rand/v2"
	"time"
)

// The pace of all that waits.
const (
	// LookInterval bounds every wait for a bell: nothing rests on a watch alone.
	LookInterval = 5 * time.Second

	// RetryInterval is how long is waited after an error of the store.
	RetryInterval = time.Second
)

// Jittered is d and up to a quarter more.
func Jittered(d time.Duration) time.Duration { return d + mathrand.N(d/4) }
