package mailbox

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersionNamesTheCommit(t *testing.T) {
	const revision = "0219a37f1d2e0c9b8a7f6e5d4c3b2a1908070605"
	for _, c := range []struct{ module, revision, modified, want string }{
		{"", "", "", "(devel)"},
		{"(devel)", "", "", "(devel)"},
		{"(devel)", revision, "false", "(devel) 0219a37f1d2e"},
		{"(devel)", revision, "true", "(devel) 0219a37f1d2e+dirty"},
		{"v1.2.3", "", "", "v1.2.3"},
		{"v1.2.3", revision, "false", "v1.2.3 0219a37f1d2e"},
		{"v1.2.3+dirty", revision, "true", "v1.2.3+dirty 0219a37f1d2e"},
		{"v0.0.0-20261129101500-0219a37f1d2e", revision, "false", "v0.0.0-20261129101500-0219a37f1d2e"},
		{"v0.0.0-20261129101500-0219a37f1d2e+dirty", revision, "true", "v0.0.0-20261129101500-0219a37f1d2e+dirty"},
		{"(devel)", "7", "false", "(devel) 7"},
		{strings.Repeat("v", 1000), revision, "true", strings.Repeat("v", maxVersion)},
	} {
		info := &debug.BuildInfo{Main: debug.Module{Version: c.module}}
		if c.revision != "" {
			info.Settings = []debug.BuildSetting{{Key: "vcs.revision", Value: c.revision}, {Key: "vcs.modified", Value: c.modified}}
		}
		if got := versionOf(info); got != c.want {
			t.Errorf("%+v is %q, want %q", c, got, c.want)
		}
	}
}
