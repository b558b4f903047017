package operate

import (
	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// flaw is a finding of Check that can be mended.
type flaw struct {
	error
	mend mend
}

func (f flaw) Unwrap() error { return f.error }

// mend is the smallest change after which a finding is gone, and that is right whatever consumers do meanwhile. It looks for
// the finding again in its own transaction, and reports false, having written nothing, when it is gone.
type mend struct {
	how string
	ref tenant.Ref // the server that it is about, if it is about one
	do  func(tx backend.Tx, act *tenant.Act) (done bool, err error)
}

// mendable is a finding that m mends.
func mendable(err error, m mend) error { return flaw{err, m} }

// place is where a finding of a server is: its part is a name below the server's key.
type place struct {
	ref  tenant.Ref
	part string
}

// processPlace is a process of which a finding is.
type processPlace string

func (p processPlace) String() string { return "process " + string(p) }

func (p place) String() string { return p.ref.String() }

// What a person can do about what is not mended: nobody knows what was there, and a guess could lose or double something.
var advices = map[string]string{
	tenant.KeyHead:    "its version of the library may be too old to know it; else restore the server from an export, or kill it",
	tenant.KeyQueue:   "the message is lost or cannot be told from its neighbours: restore the server from an export or a backup, or kill it",
	tenant.KeyState:   "reset forgets the state, and leaves the queue; or restore the server from an export or a backup",
	tenant.KeyDead:    "dead lists the letter, and discard removes it",
	tenant.KeyFailure: "its version of the library may be too old to know it",
	tenant.KeyLater:   "delete takes it away by the id that later shows; its sender sends it again",
	tenant.KeySent:    "delete takes the message away by the id that later shows; its sender sends it again",
	tenant.KeyOnce:    "what is sent with the key is refused: send it with another one; kill forgets it",
	tenant.KeyImport:  "run the import again, or kill the server",
	tenant.KeyTimer:   "it goes when a handler sets or stops the timer; reset removes all timers, with the state",
	tenant.KeyWork:    "unlock ends a lock that has lost its message; of a message that has lost its lock nobody knows whether its work was done: look there, then reset, or kill",
}

// indexAdvices is the same of what stands beside the servers.
var indexAdvices = map[string]string{
	tenant.KeyActs:    "audit leaves it out; it is no trouble to any server",
	tenant.KeyProcess: "its process writes it anew while it lives; else it is removed ten minutes after a consumer has seen it stand still",
}

const strangeAdvice = "a newer version of the library may have written it, so it is left alone; consumers of this version pass it over"

// adviceFor is what a person can do about a finding.
func adviceFor(at any) string {
	advice := ""
	switch at := at.(type) {
	case place:
		advice = advices[at.part]
	case backend.Key:
		if elements, err := at.Elements(); err == nil && len(elements) > 0 {
			name, _ := elements[0].(string)
			advice = indexAdvices[name]
		}
	case processPlace:
		advice = indexAdvices[tenant.KeyProcess]
	}
	if advice == "" {
		return strangeAdvice
	}
	return advice
}
