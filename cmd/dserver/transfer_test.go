package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
)

// Servers are exported, one, those of a type or all, into a file that was not there, and imported where they are not.
func TestToolMovesServers(t *testing.T) {
	dir, db := start(t)
	populate(t, db)
	to, err := sqlite.Open(filepath.Join(dir, "new.db"), sqlite.Relaxed())
	must(t, err)
	must(t, to.Close())
	one, all := filepath.Join(dir, "one"), filepath.Join(dir, "all")
	for _, c := range []struct {
		args []string
		code int
		says string // all of stdout, or a part of stderr
	}{
		{[]string{"--db", "app.db", "export", one, "mailbox/ada"}, exitDone, "exported 1 server to " + one + "\n"},
		{[]string{"--db", "app.db", "export", one}, exitFailed, "file exists"},
		{[]string{"--db", "app.db", "export", all, "--type", "nothing"}, exitDone, "exported 0 servers to " + all + "\n"},
		{[]string{"--db", "app.db", "export", all, "mailbox/ada", "--type", "mailbox"}, exitUsage, "not both"},
		{[]string{"--db", "new.db", "import", filepath.Join(dir, "none")}, exitFailed, "no such file"},
		{[]string{"--db", "new.db", "import", filepath.Join(dir, "app.db")}, exitFailed, "it is no export of dserver"},
		{[]string{"--db", "new.db", "import", one, "--json"}, exitDone, `{"imported":1}` + "\n"},
		{[]string{"--db", "new.db", "import", one}, exitFailed, "there is mailbox/ada already"},
		{[]string{"--db", "new.db", "kill", "mailbox/ada", "--yes"}, exitDone, ""},
		{[]string{"--db", "new.db", "import", all}, exitDone, "imported 0 servers\n"},
	} {
		stdout, stderr, code := dserverTool(t, dir, c.args...)
		if code != c.code || code == exitDone && c.says != "" && stdout != c.says || code != exitDone && !strings.Contains(stderr, c.says) {
			t.Errorf("%v: exit code %d, %s%s", c.args, code, stdout, stderr)
		}
	}
	must(t, os.Remove(all))
	if stdout, stderr, code := dserverTool(t, dir, "--db", "app.db", "export", all); code != exitDone {
		t.Fatalf("%s%s", stdout, stderr)
	}
	if stdout, stderr, code := dserverTool(t, dir, "--db", "new.db", "import", all); code != exitDone {
		t.Fatalf("%s%s", stdout, stderr)
	}
	to, err = sqlite.Open(filepath.Join(dir, "new.db"), sqlite.Relaxed())
	must(t, err)
	defer to.Close()
	for ref, err := range dserver.All(t.Context(), db) {
		must(t, err)
		here, there := statusOf(t, db, ref), statusOf(t, to, ref)
		if here.Queued != there.Queued || here.DeadLetters != there.DeadLetters || here.Created != there.Created {
			t.Errorf("%v was %+v and is %+v", ref, here, there)
		}
	}
}
