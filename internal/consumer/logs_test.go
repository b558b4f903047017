package consumer

import (
	"strconv"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// What a log line tells to type is one line that can be seen, whatever the id is, and names the server.
func TestTheCommandInALogCanBeTyped(t *testing.T) {
	for id, want := range map[string]string{
		"4711":        `cart/4711`,
		"a b":         `'cart/a b'`,
		"it's":        `'cart/it'\''s'`,
		"\x1b[2J":     `'"cart/\x1b[2J"'`,
		"a\nb'c":      `'"cart/a\nb\x27c"'`,
		"\xff":        `'"cart/\xff"'`,
		"\u202e1":     `'"cart/\u202e1"'`,
		"$(reboot) `": "'cart/$(reboot) `'",
	} {
		shown := showCommand(tenant.Ref{Type: "cart", ID: id}, backend.NewVersionstamp(1, 0))
		if !strings.HasPrefix(shown, "dserver show "+want+" 0000") {
			t.Errorf("%q is shown as %s", id, shown)
		}
		for _, r := range shown {
			if !strconv.IsPrint(r) {
				t.Errorf("%q has %U", shown, r)
			}
		}
	}
}
