package postgres

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// proxy stands between a handle and the server, reads what the handle sends, and does something to its commits.
type proxy struct {
	target string
	l      net.Listener

	mu    sync.Mutex
	fault func() fault // of the next commit
	met   map[fault]int
	delay time.Duration // of one that comes late
	late  sync.WaitGroup
	isAt  func() // waits until the server is at it; it gets no requests to cancel then
}

// fault is what becomes of a commit.
type fault int

const (
	forwarded  fault = iota
	lostBefore       // the connection is cut, and the server gets nothing
	comesLate        // the connection is cut, and the server gets it a moment later
	cutDuring        // the server gets it, and both connections are cut at once
	answerLost       // the server has answered, and the handle does not get it
	underWay         // the connection is cut when the server is at it, which it stays
)

func (f fault) String() string {
	return []string{"forwarded", "lost before", "late", "cut during", "answer lost", "under way"}[f]
}

// newProxy returns a proxy and the name of the database behind it.
func newProxy(t testing.TB, name string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: u.Host, l: l, met: map[fault]int{}, delay: 5 * time.Millisecond, fault: func() fault { return forwarded }}
	t.Cleanup(func() { l.Close(); p.awaitLate() })
	go p.serve()
	u.Host = l.Addr().String()
	query := u.Query()
	query.Set("sslmode", "disable")
	u.RawQuery = query.Encode()
	return p, u.String()
}

// with sets what becomes of commits.
func (p *proxy) with(fault func() fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
}

func (p *proxy) next() fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.fault()
	p.met[f]++
	if f == comesLate {
		p.late.Add(1)
	}
	return f
}

// awaitLate waits for those that come late.
func (p *proxy) awaitLate() {
	p.mu.Lock()
	p.mu.Unlock() //nolint:staticcheck // whoever has drawn its fault has counted it
	p.late.Wait()
}

func (p *proxy) serve() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.target)
		if err != nil {
			c.Close()
			continue
		}
		w := &wire{p: p, client: c, server: s, advances: map[string]bool{}, ended: make(chan struct{})}
		go w.answers()
		go w.requests()
	}
}

// wire is one connection through the proxy.
type wire struct {
	p              *proxy
	client, server net.Conn
	advances       map[string]bool // the names of prepared statements that advance the clock
	ended          chan struct{}   // the server says no more, or is not heard

	mu     sync.Mutex
	isDeaf bool // the answers do not go to the client any more
}

func (w *wire) close() { w.client.Close(); w.server.Close() }

// answers brings what the server says.
func (w *wire) answers() {
	defer close(w.ended)
	buffer := make([]byte, 64<<10)
	for {
		n, err := w.server.Read(buffer)
		w.mu.Lock()
		isDeaf := w.isDeaf
		w.mu.Unlock()
		if isDeaf && n > 0 || err != nil {
			w.close()
			return
		}
		if _, err := w.client.Write(buffer[:n]); err != nil {
			w.close()
			return
		}
	}
}

// cancelRequest is the code of a connection that cancels what another does, as the driver does when its own is cut.
const cancelRequest = 80877102

// requests brings what the client says, batch by batch.
func (w *wire) requests() {
	defer w.client.Close()
	var batch []byte
	isCommit := false
	startup, err := message(w.client, 0)
	isCancel := err == nil && binary.BigEndian.Uint32(startup[4:]) == cancelRequest
	if err != nil || isCancel && w.p.isAt != nil || w.forward(startup) != nil {
		w.server.Close()
		return
	}
	for {
		m, err := message(w.client, 1)
		if err != nil {
			w.server.Close()
			return
		}
		batch = append(batch, m...)
		switch m[0] {
		case 'P': // a name and its statement
			name, sql, _ := strings.Cut(string(m[5:]), "\x00")
			if strings.Contains(sql, "commits VALUES") {
				w.advances[name] = true
			}
		case 'B': // a portal and the name of its statement
			_, rest, _ := strings.Cut(string(m[5:]), "\x00")
			name, _, _ := strings.Cut(rest, "\x00")
			isCommit = isCommit || w.advances[name]
		}
		if m[0] != 'S' && m[0] != 'Q' && m[0] != 'X' && m[0] != 'p' { // the end of a batch
			continue
		}
		if isCommit && w.meet(batch) || !isCommit && w.forward(batch) != nil {
			return
		}
		batch, isCommit = nil, false
	}
}

func (w *wire) forward(b []byte) error {
	_, err := w.server.Write(b)
	return err
}

// meet does to a commit what is to be done, and reports whether the connection has ended.
func (w *wire) meet(batch []byte) bool {
	switch w.p.next() {
	case lostBefore:
		w.close()
	case comesLate:
		w.deafen()
		w.client.Close()
		go func() {
			defer w.p.late.Done()
			<-time.After(w.p.delay)
			w.forward(batch)
			<-time.After(50 * time.Millisecond)
			w.close()
		}()
	case cutDuring:
		w.forward(batch)
		w.close()
	case answerLost:
		w.deafen()
		w.forward(batch)
		<-w.ended // the answer came
	case underWay:
		w.deafen()
		w.forward(batch)
		w.p.isAt()
	default:
		return w.forward(batch) != nil
	}
	return true
}

func (w *wire) deafen() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isDeaf = true
}

// message reads one, whose length stands after so many bytes.
func message(r io.Reader, at int) ([]byte, error) {
	head := make([]byte, at+4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[at:]))
	if n < 4 || n > 64<<20 {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	m := make([]byte, at+n)
	copy(m, head)
	_, err := io.ReadFull(r, m[at+4:])
	return m, err
}
