package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// The file and the two beside it, by their names. SQLite has them open, and goes on with them whatever becomes of the
// names: who removes or replaces one takes with it what is committed after that, and each connection that is opened
// after that opens, or makes, another. So a handle looks whether the names are still those of its files:
//
//  1. After each commit, before it is acknowledged. What is lost all the same was committed before its file was removed,
//     or in the microseconds between that look and the return. While the time of the folder stands still nothing was
//     made, moved or removed in it: then one look at the folder is enough.
//  2. Four times a second, for handles that only read.
//  3. Around the opening of each connection. None but Open makes the file.
//
// The last connection to be closed removes the log. SQLite does not where the file is not that of its name any more, as
// the log would be another's.
//
// Nothing here opens a file that SQLite has locks on, as it has on the first and the third: closing it would drop those of the
// whole process.
type files struct {
	path  string // as it was named
	real  string // where links lead
	dir   string // of real
	names [3]string
	known [3]fs.FileInfo
	calm  fs.FileInfo // the folder, when it had been left alone for long at a check; nil when not. The writer's
}

// besides are what SQLite adds to the file's name, for the log and for its index.
var besides = [...]string{"", "-wal", "-shm"} //nolint:gochecknoglobals // a constant

// log is the name of SQLite's log.
func (f *files) log() string { return f.names[1] }

// ownerOnly is the mode of files that Open makes: what a program keeps is nobody else's business until somebody says
// so, by making an empty file of another mode beforehand. The log and its index get the mode of the file.
const ownerOnly = 0o600

// making guards the moment in which Open has the file open beside SQLite.
var making sync.Mutex //nolint:gochecknoglobals // locks of a file are the process's

// findFiles resolves path, which may be a link, and makes the file if it is not there.
func findFiles(path string) (*files, error) {
	path, err := filepath.Abs(path) // the program may change its folder
	if err != nil {
		return nil, fmt.Errorf("sqlite: open: %w", err)
	}
	f := &files{path: path}
	if f.real, err = resolve(path); err != nil {
		return nil, fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	f.dir = filepath.Dir(f.real)
	for i, suffix := range besides {
		f.names[i] = f.real + suffix
	}
	f.names[0] = path // a link that leads elsewhere is another file as well
	if err := checkPath(path, f.real); err != nil {
		return nil, err
	}
	return f, f.create()
}

// resolve follows links, also one whose end is not there yet.
func resolve(path string) (string, error) {
	const most = 40
	for range most {
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			dir, err := filepath.EvalSymlinks(filepath.Dir(path))
			if err != nil {
				return path, nil //nolint:nilerr // checkPath says it better
			}
			return filepath.Join(dir, filepath.Base(path)), nil
		}
		to, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return "", errors.New("its links lead in a circle")
}

// create makes an empty file where there is none.
func (f *files) create() error {
	making.Lock()
	defer making.Unlock()
	file, err := os.OpenFile(f.real, os.O_CREATE|os.O_EXCL|os.O_RDWR, ownerOnly)
	if err == nil {
		err = file.Close()
	} else if _, isThere := os.Stat(f.real); isThere == nil {
		err = nil // whether it may be written shows later
	}
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("give this user the right to write in its folder (SQLite keeps two more files beside it, "+
			"-wal and -shm): %w", err)
	}
	if err != nil {
		return fmt.Errorf("sqlite: open %s: %w", f.path, err)
	}
	f.known[0], err = os.Stat(f.path)
	return err
}

// opened notes which files SQLite has opened.
func (f *files) opened() error {
	for i, name := range f.names {
		info, err := os.Stat(name)
		if err != nil {
			return fmt.Errorf("look at %s: %w", name, err)
		}
		if i == 0 && !os.SameFile(info, f.known[0]) {
			return errors.New("it was replaced while it was opened: open it again")
		}
		f.known[i] = info
	}
	return nil
}

// What is more than the times of a file system are rounded to: to two seconds where it keeps no fractions of a
// millisecond, elsewhere to a tick of the kernel.
const (
	coarse = 3 * time.Second
	fine   = 100 * time.Millisecond
)

// settles is how long after a change a folder's time is sure to tell of the next one.
func settles(changed time.Time) time.Duration {
	if changed.Nanosecond()%int(time.Millisecond) != 0 {
		return fine
	}
	return coarse
}

// checkSoon is check for the writer, which asks after each commit.
func (f *files) checkSoon() error {
	folder, unseen := os.Stat(f.dir)
	if unseen == nil && f.calm != nil && os.SameFile(folder, f.calm) && folder.ModTime().Equal(f.calm.ModTime()) {
		return nil
	}
	f.calm = nil
	began := time.Now()
	if err := f.check(); err != nil {
		return err
	}
	isLink := f.names[0] != f.real // its own folder is another
	if unseen == nil && !isLink && began.Sub(folder.ModTime()) > settles(folder.ModTime()) {
		f.calm = folder
	}
	return nil
}

// check fails when a name is not that of the file any more. Where that cannot be told, nothing is said.
func (f *files) check() error {
	for i, name := range f.names {
		info, err := os.Stat(name)
		var became string
		switch {
		case errors.Is(err, fs.ErrNotExist):
			became = "removed or moved away"
		case err == nil && !os.SameFile(info, f.known[i]):
			became = "replaced by another file"
		default:
			continue
		}
		return fmt.Errorf("sqlite: %s was %s while the database was open: what is committed from then on is lost to "+
			"who opens it by its name. Stop all programs before you move, remove or restore it; then open it again",
			name, became)
	}
	return nil
}

// checkPath finds the mistakes that SQLite reports less clearly.
func checkPath(path, real string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("sqlite: open %s: it is a %s, not a file; name a file in it, such as %s",
			path, kindOf(info.Mode()), filepath.Join(path, "dserver.db"))
	}
	dir := filepath.Dir(real)
	if info, err := os.Stat(dir); err != nil {
		return fmt.Errorf("sqlite: open %s: its folder is not there or not readable; create it first: %w", path, err)
	} else if !info.IsDir() {
		return fmt.Errorf("sqlite: open %s: %s is not a folder", path, dir)
	}
	return nil
}

// checkName refuses what names no file.
func checkName(path string) error {
	switch {
	case path == "" || path == ":memory:":
		return fmt.Errorf("sqlite: open %q: the path of a file is needed; tests have dservertest.Start", path)
	case strings.ContainsRune(path, 0):
		return fmt.Errorf("sqlite: open %q: no file's name holds a zero byte, where SQLite would end it", path)
	}
	return nil
}

func kindOf(mode fs.FileMode) string {
	if mode.IsDir() {
		return "folder"
	}
	return "special file"
}
