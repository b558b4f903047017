//go:build !unix

package pgtest

import "errors"

// Server is a PostgreSQL server of a test's own.
type Server struct{ settings []string }

func begin(*Server) (*Server, error) {
	return nil, errors.New("tests start a server of their own on Unix alone; name one by PGTEST_URL")
}

// Start does nothing here.
func (*Server) Start() error { return nil }

// URL is the server's database.
func (*Server) URL() string { return "" }

// End does nothing here.
func (*Server) End() {}
