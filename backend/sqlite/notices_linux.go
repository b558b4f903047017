package sqlite

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// notices are of commits, of whichever process: each that commits opens the log for reading and closes it again, of which the
// kernel tells all who asked. What it tells of writes comes before the commit can be seen, and several times for each; to set
// the times of the file would make the next fsync slower. SQLite has no locks on the log, which closing it would drop.
type notices struct {
	come bool // else none do
	take func() (rest time.Duration)
	file *os.File
	stop chan struct{}
	wg   sync.WaitGroup
}

// listen asks for notices, and has each taken by a function that says for how long none is to be taken after it. Where the
// system has none to give, as beyond its limit of those who may ask, none come.
func listen(log string, take func() (rest time.Duration)) *notices {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return &notices{}
	}
	if _, err := unix.InotifyAddWatch(fd, log, unix.IN_CLOSE_NOWRITE); err != nil {
		_ = unix.Close(fd)
		return &notices{}
	}
	n := &notices{come: true, take: take, file: os.NewFile(uintptr(fd), "inotify"), stop: make(chan struct{})}
	n.wg.Go(n.read)
	return n
}

// read has notices taken. Those that come while none is taken are one, in the kernel.
func (n *notices) read() {
	events := make([]byte, 4<<10)
	for {
		if _, err := n.file.Read(events); err != nil {
			return
		}
		if rest := n.take(); rest > 0 {
			select {
			case <-time.After(rest):
			case <-n.stop:
				return
			}
		}
	}
}

func (n *notices) close() {
	if !n.come {
		return
	}
	_ = n.file.Close()
	close(n.stop)
	n.wg.Wait()
}

// notify gives notice of a commit. Who does not get it looks in intervals.
func notify(log string) {
	if fd, err := unix.Open(log, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		_ = unix.Close(fd)
	}
}
