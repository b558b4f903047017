package mailbox

import (
	"testing"
	"time"
)

// A death is proven by looks that are close to each other, and by nothing else.
func TestDeathIsARecordThatStoodStill(t *testing.T) {
	const gap = ConsumerBeat * vanishedBeats / 2
	type look struct {
		after  time.Duration
		record string
	}
	for _, c := range []struct {
		name  string
		looks []look
		life  Life
	}{
		{"never seen before", []look{{0, "a"}}, Unproven},
		{"without a record", []look{{0, ""}}, Dead},
		{"its record went", []look{{0, "a"}, {1, ""}}, Dead},
		{"it stood still", []look{{0, "a"}, {gap, "a"}, {gap, "a"}}, Dead},
		{"for less", []look{{0, "a"}, {gap, "a"}, {gap - 1, "a"}}, Unproven},
		{"looks that are far apart", []look{{0, "a"}, {10 * gap, "a"}}, Unproven},
		{"far apart in the middle", []look{{0, "a"}, {gap, "a"}, {gap + 1, "a"}, {gap, "a"}}, Unproven},
		{"it moved", []look{{0, "a"}, {10 * gap, "b"}}, Alive},
		{"it moved and stood still for less", []look{{0, "a"}, {1, "b"}, {gap, "b"}}, Alive},
		{"it moved and stood still", []look{{0, "a"}, {1, "b"}, {gap, "b"}, {gap, "b"}}, Dead},
		{"it moved, and then nobody looked", []look{{0, "a"}, {1, "b"}, {gap + 1, "b"}}, Unproven},
		{"it moved again", []look{{0, "a"}, {gap, "a"}, {gap, "a"}, {gap, "b"}}, Alive},
	} {
		var w Witness
		now := time.Now()
		for _, l := range c.looks {
			now = now.Add(l.after)
			record := []byte(l.record)
			if l.record == "" {
				record = nil
			}
			w.Weigh("p", []byte("c"), now) // in a transaction that runs again
			if l := w.Weigh("p", record, now); l != w.Weigh("p", record, now) {
				t.Errorf("%s: weighing is remembered", c.name)
			}
			w.Note(map[string][]byte{"p": record}, now)
		}
		if _, l := w.of("p"); l != c.life {
			t.Errorf("%s: %v, want %v", c.name, l, c.life)
		}
	}
}
