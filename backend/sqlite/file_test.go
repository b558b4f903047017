package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// lossOf is each way in which a handle can lose its files.
func lossOf(t *testing.T, path string) map[string]func() {
	t.Helper()
	rename := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(names ...string) {
		for _, name := range names {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	return map[string]func(){
		"all three are removed":  func() { remove(path, path+"-wal", path+"-shm") },
		"the file is removed":    func() { remove(path) },
		"the log is removed":     func() { remove(path + "-wal") },
		"the index is removed":   func() { remove(path + "-shm") },
		"the file is moved":      func() { rename(path, path+".old") },
		"its folder is moved":    func() { rename(filepath.Dir(path), filepath.Dir(path)+".old") },
		"a copy is moved over":   func() { rename(filled(t), path) },
		"the log is moved over":  func() { rename(filled(t), path+"-wal") },
		"the file is made again": func() { remove(path); rawFile(t, path) },
	}
}

func eachLoss(t *testing.T, test func(t *testing.T, db *DB, lose func())) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file cannot be removed or moved here")
	}
	for how := range lossOf(t, "") {
		for _, age := range []time.Duration{0, time.Hour} { // of the folder: when it is old, the writer looks at that only
			t.Run(fmt.Sprint(how, age), func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "folder", "test.db")
				if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				db := openAt(t, path)
				changed := time.Now().Add(-age)
				if err := os.Chtimes(filepath.Dir(path), changed, changed); err != nil {
					t.Fatal(err)
				}
				mustSet(t, db, "before", "1")
				test(t, db, lossOf(t, path)[how])
			})
		}
	}
}

// tellsOfItsFile checks that an error ends the handle for the reason that its file is gone.
func tellsOfItsFile(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, backend.ErrClosed) || !strings.Contains(err.Error(), "while the database was open") {
		t.Errorf("%s: %v; want ErrClosed and the reason", what, err)
	}
}

// Nothing is acknowledged that a new Open would not find.
func TestNothingIsAcknowledgedOnceTheFileIsGone(t *testing.T) {
	eachLoss(t, func(t *testing.T, db *DB, lose func()) {
		watch := watchKey(t, db, "never")
		lose()
		tellsOfItsFile(t, "the first commit", setKey(db, "during", "1"))
		tellsOfItsFile(t, "the next", setKey(db, "after", "1"))
		awaitWatch(t, watch)
	})
}

// A folder that was changed a moment ago is looked into: its time may be the same after the next change.
func TestFolderWhoseTimeMayNotTellIsLookedInto(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file cannot be removed here")
	}
	path := filepath.Join(t.TempDir(), "test.db")
	db := openAt(t, path)
	moment := time.Now().Add(time.Hour) // it does not pass while the test runs
	touch := func() {
		if err := os.Chtimes(filepath.Dir(path), moment, moment); err != nil {
			t.Fatal(err)
		}
	}
	touch()
	mustSet(t, db, "before", "1")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	touch()
	tellsOfItsFile(t, "a commit", setKey(db, "after", "1"))
}

func TestTimesOfAFolderSettle(t *testing.T) {
	second := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	for changed, want := range map[time.Time]time.Duration{
		second:                                  coarse, // of a file system that rounds to two seconds, or to one
		second.Add(40 * time.Millisecond):       coarse, // to ten milliseconds
		second.Add(123456789 * time.Nanosecond): fine,
		second.Add(100 * time.Microsecond):      fine,
	} {
		if got := settles(changed); got != want {
			t.Errorf("what was changed at %v settles after %v, not %v", changed, got, want)
		}
	}
}

// Who only reads is told as well, within a moment, and makes no file.
func TestReadersOfAFileThatIsGoneAreTold(t *testing.T) {
	eachLoss(t, func(t *testing.T, db *DB, lose func()) {
		lose()
		_, before := os.Stat(db.path)
		var err error
		await(t, "the end of the handle", func() bool {
			err = readBeside(db, calmReaders)
			return err != nil
		})
		tellsOfItsFile(t, "a read", err)
		if _, after := os.Stat(db.path); errors.Is(before, fs.ErrNotExist) && !errors.Is(after, fs.ErrNotExist) {
			t.Error("a reader has made the file again")
		}
	})
}

// readBeside reads in so many snapshots at once.
func readBeside(db *DB, others int) error {
	return db.Read(context.Background(), func(tx backend.ReadTx) error {
		_, err := tx.Get(backend.NewKey("before")).Get()
		if err == nil && others > 0 {
			err = readBeside(db, others-1)
		}
		return err
	})
}

// The end of a handle whose file was replaced takes nothing from who uses the new one.
func TestCloseLeavesTheFilesOfOthersAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "test.db")
	db := openAt(t, path)
	mustSet(t, db, "old", "1")
	for _, suffix := range besides {
		if err := os.Rename(path+suffix, path+".old"+suffix); err != nil {
			t.Fatal(err)
		}
	}
	fresh := openAt(t, path)
	mustSet(t, fresh, "new", "1")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	mustSet(t, fresh, "newer", "1")
	if getKey(t, fresh, "new") != "1" || getKey(t, fresh, "old") != "" {
		t.Error("the new file does not hold what was stored in it")
	}
}

func TestFilesAreTheirOwnersAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes are another system's here")
	}
	dir := t.TempDir()
	given := filepath.Join(dir, "given.db")
	if err := os.WriteFile(given, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(given, 0o660); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{filepath.Join(dir, "made.db"): 0o600, given: 0o660} {
		mustSet(t, openAt(t, path), "a", "1")
		for _, suffix := range besides {
			info, err := os.Stat(path + suffix)
			if err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %v, %v; want %v", path+suffix, info.Mode(), err, want)
			}
		}
	}
}

func TestAnyNameOfAFileIsThatFile(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{
		"plain.db", "with space.db", "a?mode=memory.db", "a#b.db", "100%25.db", "file:b.db", "file:c.db?mode=ro", "ä\xff.db",
		"-wal", "'quoted\".db", "line\nbreak.db", ".hidden", "./dot/../dotted.db",
	} {
		if err := os.MkdirAll("dot", 0o755); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadDir(".")
		db, err := Open(name)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		mustSet(t, db, "a", name)
		if err := db.Close(); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		after, _ := os.ReadDir(".")
		if info, err := os.Stat(name); err != nil || info.Size() == 0 || len(after) != len(before)+1 {
			t.Errorf("%q: %v, %v; %d files more", name, info, err, len(after)-len(before))
		}
		if again := openAt(t, name); getKey(t, again, "a") != name {
			t.Errorf("%q opens another file", name)
		}
	}
	for _, name := range []string{"x\x00y", "\x00", "x\x00"} {
		if db, err := Open(name); err == nil {
			db.Close()
			t.Errorf("%q was opened", name)
		}
		if _, err := os.Stat("x"); err == nil {
			t.Errorf("%q made the file x", name)
		}
	}
}

// A link is its target, whether that is there or not; in it or beside it, there is one log.
func TestLinkIsItsTarget(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"links", "files"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link, target := filepath.Join(dir, "links", "test.db"), filepath.Join(dir, "files", "test.db")
	if err := os.Symlink("../files/test.db", link); err != nil {
		t.Skip("no links here:", err)
	}
	db, other := openAt(t, link), openAt(t, target)
	mustSet(t, db, "a", "1")
	if getKey(t, other, "a") != "1" {
		t.Error("the link leads to another file")
	}
	if left, err := os.ReadDir(filepath.Dir(link)); err != nil || len(left) != 1 {
		t.Errorf("beside the link are %v, %v", left, err)
	}
	if err := errors.Join(os.Remove(link), os.Symlink(filled(t), link)); err != nil {
		t.Fatal(err)
	}
	tellsOfItsFile(t, "a commit when the link leads elsewhere", setKey(db, "a", "2"))
	mustSet(t, other, "a", "3")
	circle := filepath.Join(dir, "circle")
	if err := os.Symlink(circle, circle); err != nil {
		t.Fatal(err)
	}
	if db, err := Open(circle); err == nil {
		db.Close()
		t.Error("a circle of links was opened")
	}
}
