package backendtest

import (
	"testing"
	"testing/synctest"
)

func TestModel(t *testing.T) { Run(t, Model) }

// The model uses nothing but package time and channels, so in a bubble growing old costs no time.
func TestModelGrowsOldInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { tooOldFails(newTrial(t, Model)) })
}

func BenchmarkModel(b *testing.B) { Bench(b, Model) }
