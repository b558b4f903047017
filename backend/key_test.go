package backend

import (
	"bytes"
	"testing"
)

func TestKeyRanges(t *testing.T) {
	parent, child, sibling := NewKey("a"), NewKey("a", int64(1)), NewKey("ab")
	for _, c := range []struct {
		name  string
		r     Range
		key   Key
		holds bool
	}{
		{"only holds the key", parent.Only(), parent, true},
		{"only holds no child", parent.Only(), child, false},
		{"below holds the child", parent.Below(), child, true},
		{"below does not hold the key", parent.Below(), parent, false},
		{"below holds no sibling", parent.Below(), sibling, false},
		{"tree holds the key", parent.Tree(), parent, true},
		{"tree holds the child", parent.Tree(), child, true},
		{"after a child does not hold it", parent.Tree().After(child), child, false},
		{"after a child holds the next", parent.Tree().After(child), NewKey("a", int64(2)), true},
	} {
		if c.r.Contains(c.key) != c.holds {
			t.Errorf("%s: %v and %v", c.name, c.r, c.key)
		}
	}
}

func TestStampedKeyGivesItsStampBack(t *testing.T) {
	prefix := NewKey("q", int64(1))
	stamp := NewVersionstamp(1<<40, 7)
	if got, ok := prefix.Stamp(stamp).CutStamp(prefix); !ok || got != stamp {
		t.Fatalf("got %v, %v", got, ok)
	}
	if _, ok := NewKey("q", int64(1), "no stamp...").CutStamp(prefix); ok {
		t.Fatal("text was taken for a stamp")
	}
	parsed, err := ParseVersionstamp(stamp.String())
	if err != nil || parsed != stamp {
		t.Fatalf("%v came back as %v, %v", stamp, parsed, err)
	}
}

func TestExtendingAKeyLeavesItAlone(t *testing.T) {
	k := append(make(Key, 0, 64), NewKey("a")...)
	one, two := k.Int(1), k.Int(2)
	if bytes.Equal(one, two) || len(k) != len(NewKey("a")) {
		t.Fatalf("%v and %v", one, two)
	}
}

func TestCountersAndStampsOfWrongLengthAreCorrupt(t *testing.T) {
	if _, err := Counter([]byte{1}); err == nil {
		t.Error("a counter of one byte was read")
	}
	if _, err := StampOf([]byte{1}); err == nil {
		t.Error("a stamp of one byte was read")
	}
	if n, err := Counter(CounterValue(-3)); n != -3 || err != nil {
		t.Errorf("-3 came back as %d, %v", n, err)
	}
}
