package mailbox

import (
	"runtime/debug"
	"strings"
	"sync"
)

// The version of this program, for operators of a rolling update.
const (
	maxVersion     = 128 // bytes: it is written with each beat
	revisionDigits = 12  // of a commit, as in a pseudo-version
)

// programVersion is the version of this program.
var programVersion = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return versionOf(info)
})

// versionOf is the version of the main module, with the commit where that does not tell it: v1.2.3 0123456789ab.
func versionOf(info *debug.BuildInfo) string {
	version, revision, modified := info.Main.Version, "", false
	if version == "" {
		version = "(devel)"
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(len(s.Value), revisionDigits)]
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if revision != "" && !strings.Contains(version, revision) {
		version += " " + revision
	}
	if modified && !strings.Contains(version, "+dirty") {
		version += "+dirty"
	}
	return version[:min(len(version), maxVersion)]
}
