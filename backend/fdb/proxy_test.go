//go:build fdb

package fdb

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy stands between clients and one server on loopback.
type proxy struct {
	listener net.Listener
	target   string

	mu      sync.Mutex
	isDeaf  bool                  // answers are dropped
	links   map[net.Conn]net.Conn // server's end by client's end
	cuts    int
	waiting sync.WaitGroup
}

// newProxy listens, and forwards to target.
func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target, links: make(map[net.Conn]net.Conn)}
	p.waiting.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.cut()
		p.waiting.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close() // the server is not there
			continue
		}
		p.mu.Lock()
		p.links[client] = server
		p.mu.Unlock()
		p.waiting.Go(func() { p.forward(server, client, client) })
		p.waiting.Go(func() { p.forward(answers{p, client}, server, client) })
	}
}

// forward copies until an end closes, and then closes both.
func (p *proxy) forward(to io.Writer, from net.Conn, client net.Conn) {
	io.Copy(to, from)
	p.mu.Lock()
	defer p.mu.Unlock()
	if server := p.links[client]; server != nil {
		server.Close()
		client.Close()
		delete(p.links, client)
	}
}

// answers is the way to the client.
type answers struct {
	p      *proxy
	client net.Conn
}

func (a answers) Write(b []byte) (int, error) {
	a.p.mu.Lock()
	isDeaf := a.p.isDeaf
	a.p.mu.Unlock()
	if isDeaf {
		return len(b), nil
	}
	return a.client.Write(b)
}

// deafen drops all answers until cut: what is sent arrives, and nobody hears of it.
func (p *proxy) deafen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isDeaf = true
}

// cut ends all connections. New ones work.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isDeaf = false
	p.cuts++
	for client, server := range p.links {
		client.Close()
		server.Close()
		delete(p.links, client)
	}
}
