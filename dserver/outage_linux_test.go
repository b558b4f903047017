package dserver_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/dserver-go/dserver/backend/fdb/fdbserver"
	"github.com/dserver-go/dserver/backend/fdb/fdbtest"
)

// cable is the network of a process that has one of its own: a pair of interfaces, one here and one there. No name in the file
// system keeps it: it is gone with the last of that process and this test, also when they are killed.
type cable struct {
	t     *testing.T
	name  string   // of the interface here
	host  string   // its address
	space *os.File // the process's namespace, which stays as long as this is open
}

// needNetworks skips a test that nobody could run here.
func needNetworks(t *testing.T) {
	t.Helper()
	missing := ""
	for _, program := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = err.Error()
		}
	}
	switch {
	case !fdbtest.IsAsked():
		t.Skip("it cuts a process off a FoundationDB of its own: FDB=1 asks for it")
	case os.Getuid() != 0:
		t.Skip("it makes a network namespace, which only root may")
	case missing != "":
		t.Fatalf("FDB=1 asks for it, and it makes a network namespace: %s", missing)
	}
}

// plug gives a process in a network namespace of its own an address, from where it reaches one here.
func plug(t *testing.T, random *rand.Rand, pid int) *cable {
	t.Helper()
	n := random.IntN(1 << 15) // of the networks for measurements (RFC 2544), which nobody routes
	address := func(last int) string { return fmt.Sprintf("198.%d.%d.%d", 18+n>>14, n>>6&255, n&63<<2+last) }
	c := &cable{t: t, name: fmt.Sprintf("ds%d", pid), host: address(1)}
	var err error
	c.space, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	must(t, err)
	t.Cleanup(func() {
		_ = c.space.Close()
		_ = exec.Command("ip", "link", "delete", c.name).Run() // it goes with the namespace, a moment later
	})
	c.ip("link", "add", c.name, "type", "veth", "peer", "name", "store", "netns", fmt.Sprint(pid))
	c.ip("address", "add", c.host+"/30", "dev", c.name)
	c.ip("link", "set", c.name, "up")
	c.there("address", "add", address(2)+"/30", "dev", "store")
	c.there("link", "set", "lo", "up")
	c.there("link", "set", "store", "up")
	return c
}

func (c *cable) ip(args ...string) { c.run("ip", args...) }

// there is ip in the process's namespace.
func (c *cable) there(args ...string) {
	c.run("nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), c.space.Fd()), "ip"}, args...)...)
}

func (c *cable) run(program string, args ...string) {
	c.t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		c.t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
}

// A process whose network is cut, at any moment or in work under a lock, and is whole again later, loses, doubles and reorders
// nothing; what it had in hand is done by others meanwhile, and it works again.
func TestProcessThatIsCutOffLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	needNetworks(t)
	random, server := seeded(t), fdbserver.Find(t)
	rival := random.IntN(2) == 0
	away := startMember(t, "away", rival, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	steady := startMember(t, "steady", rival, nil)
	c := plug(t, random, away.cmd.Process.Pid)
	address := fdbserver.FreeAddress(t, c.host)
	server.Begin(address, address)
	name := "fdb:" + server.Cluster() + "?dir=outage"
	steady.opens(name)
	away.opens(name)
	far := false
	loseTheStore(t, random, name, outage{
		away: away,
		begin: func() {
			if far = random.IntN(2) == 0; far { // then it knows that it has no network
				c.there("link", "set", "store", "down")
			} else {
				c.ip("link", "set", c.name, "down")
			}
		},
		end: func() {
			if far {
				c.there("link", "set", "store", "up")
			} else {
				c.ip("link", "set", c.name, "up")
			}
		},
	}, steady)
}
