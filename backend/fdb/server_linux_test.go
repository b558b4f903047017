//go:build fdb

package fdb

import (
	"testing"

	"github.com/dserver-go/dserver/backend/fdb/fdbserver"
)

// server is an fdbserver of a test's own, on loopback. Clients reach it through a proxy, because that is the address it tells
// them.
type server struct {
	*fdbserver.Server
	proxy   *proxy
	cluster string // the cluster file
}

// startServer starts a server with an empty database.
func startServer(t testing.TB) *server {
	t.Helper()
	s := &server{Server: fdbserver.Find(t)}
	s.cluster = s.Cluster()
	listen := fdbserver.FreeAddress(t, "127.0.0.1")
	s.proxy = newProxy(t, listen)
	s.Begin(listen, s.proxy.address())
	return s
}
