package main

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/dserver"
)

// A body that JSON cannot say is shown, edited in its place by hand and by --body, and sent as it was written.
func TestAMessageIsEditedInNotation(t *testing.T) {
	dir, db := start(t)
	ada := mailboxes.Ref("ada").At(db)
	was, err := cbor.Marshal(map[any]any{1: []byte{0xff}, "1": float32(0.5), "when": cbor.Tag{Number: 4711, Content: nil}})
	must(t, err)
	must(t, ada.Cast(t.Context(), dserver.Message{Name: "letter", Body: was}))
	stamp := stampsOf(t, dir, "queue", "mailbox/ada")[0]
	for _, part := range []string{"1: h'ff'", `"1": 0.5_2`, `"when": 4711(null)`} {
		if out := succeed(t, dir, "message", "mailbox/ada", stamp, "--cbor"); !strings.Contains(out, part) {
			t.Errorf("%s is not in %s", part, out)
		}
		if out := succeed(t, dir, "--json", "message", "mailbox/ada", stamp, "--cbor"); !strings.Contains(out, strings.ReplaceAll(part, `"`, `\"`)) {
			t.Errorf("%s is not in %s", part, out)
		}
	}
	body := func() string {
		t.Helper()
		for q, err := range ada.Queue(t.Context()) {
			must(t, err)
			return hex.EncodeToString(q.Message.Body)
		}
		return ""
	}
	for _, c := range []struct {
		editor, says string
		code         int
	}{
		{"true", "nothing was changed", exitFailed},
		{"echo '{' >", "line 2, column 1: a value is missing", exitFailed},
		{`echo '[1]' >`, "no map of a message and a body", exitFailed},
		{`echo '{"message": "letter"}' >`, "its name", exitFailed},
		{`sed -i "s/h'ff'/h'fe'/"`, "changed in its place", exitDone},
	} {
		t.Setenv("VISUAL", c.editor)
		stdout, stderr, code := dserverTool(t, dir, "--db", "app.db", "edit", "mailbox/ada", stamp, "--cbor")
		if code != c.code || !strings.Contains(stdout+stderr, c.says) {
			t.Errorf("%s: exit code %d, %s%s", c.editor, code, stdout, stderr)
		}
	}
	if got, want := body(), strings.Replace(hex.EncodeToString(was), "41ff", "41fe", 1); got != want {
		t.Errorf("the body is %s, not %s", got, want)
	}
	succeed(t, dir, "edit", "mailbox/ada", stamp, "--cbor", "--body", "[_ 1(0), h'']")
	if got := body(); got != "9fc10040ff" {
		t.Errorf("the body is %s", got)
	}
	if _, stderr, code := dserverTool(t, dir, "--db", "app.db", "edit", "mailbox/ada", stamp, "--cbor", "--body", "{By: 1}"); code != exitFailed || !strings.Contains(stderr, "column 2") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}
