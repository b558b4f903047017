package operate

import (
	"testing"

	"github.com/dserver-go/dserver/internal/tenant"
)

// A server's records and its queue are read as one range, each turn: what stood between them would be taken for a message.
func TestNothingStandsBetweenTheHeadAndTheQueue(t *testing.T) {
	for _, name := range partNames {
		if tenant.KeyHead < name && name < tenant.KeyQueue {
			t.Errorf("keys below %q stand between those of the head and of the queue", name)
		}
	}
}
