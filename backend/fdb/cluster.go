//go:build fdb

package fdb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/apple/foundationdb/bindings/go/src/fdb"
)

// apiVersion is what the binding and the cluster's protocol are asked for.
const apiVersion = 730

// cluster is the connection of this process to one cluster. It belongs to the process: the client library runs one
// network thread and never gives it back, so closing a handle does not end it.
type cluster struct {
	name string // of the cluster file, as errors show it
	conn fdb.Database
}

// connecting guards the binding's own table of connections, which it changes without a lock.
var connecting sync.Mutex

// Where the client library looks when it is given no file.
const (
	clusterVariable    = "FDB_CLUSTER_FILE"
	defaultClusterFile = "/etc/foundationdb/fdb.cluster"
)

// connect prepares a connection. It reads the cluster file and sends nothing.
func connect(path string) (cluster, error) {
	if path == "" {
		path = os.Getenv(clusterVariable)
	}
	if path == "" {
		path = defaultClusterFile
	}
	if err := checkClusterFile(path); err != nil {
		return cluster{}, err
	}
	connecting.Lock()
	defer connecting.Unlock()
	if err := fdb.APIVersion(apiVersion); err != nil {
		return cluster{}, fmt.Errorf("fdb: the client library does not offer API version %d: %w", apiVersion, err)
	}
	hasten()
	conn, err := fdb.OpenDatabase(path)
	if err != nil {
		return cluster{}, describe("open the cluster file "+path, err)
	}
	return cluster{path, conn}, nil
}

// hasten makes watches fire about a quarter of a millisecond after their commit. A storage server tells of a change a little before the
// commit is acknowledged, and then the library asks for read versions until it is: at once, and again each ten
// milliseconds, for which most watches waited. That is a knob, set before the library's network runs. Where the program has
// started that already watches are slower, and nothing else depends on it.
var hasten = sync.OnceFunc(func() {
	_ = fdb.Options().SetKnob("future_version_retry_delay=0.00025")
})

// clusterLine is description:id@host:port,host:port.
var clusterLine = regexp.MustCompile(`^\w+:\w+@[^@\s]+:\d+[^@\s]*$`)

// checkClusterFile refuses what is certainly no cluster file: the client library would wait for such a cluster for ever.
func checkClusterFile(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("fdb: there is no cluster file: copy it from a machine of the cluster, where it is "+
			"%s as a rule: %w", defaultClusterFile, err)
	}
	if err != nil {
		return fmt.Errorf("fdb: read the cluster file: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) == "" {
			continue
		}
		if !clusterLine.MatchString(strings.TrimSpace(line)) {
			return fmt.Errorf("fdb: %s is no cluster file: its line is description:id@host:port,host:port, "+
				"and not %.60q", path, strings.TrimSpace(line))
		}
		return nil
	}
	return fmt.Errorf("fdb: the cluster file %s is empty", path)
}
