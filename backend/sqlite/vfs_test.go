package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// A file system that fails on demand lies between SQLite and the real one in this package's tests. It fails what is
// asked of it with the codes that SQLite's own file system would return; what it cannot show is a disk that lies, that
// is, one that reports a write as done and loses it.

// disk is how the files of one database fail. The zero value is sound.
type disk struct {
	path  string
	syncs atomic.Int32 // the code that fsync of the log returns, after the real one was made
	write atomic.Int32 // the code that writes to the log return, instead of writing
	reads atomic.Int32 // the code that reads of the file return

	synced atomic.Int64                  // fsyncs of the log
	onSync atomic.Pointer[chan struct{}] // an fsync of the log waits until it is closed
	onRead atomic.Pointer[func()]        // is called by the next read, once
	onLock atomic.Pointer[func()]        // is called when the write lock is taken next, once

	mu   sync.Mutex
	kept map[string][]byte // by the end of their names, what the files had at their last fsync; nil: nobody wants to know
}

// vfs is registered once as the default of the process, and looks at the files of its disks alone.
type vfs struct {
	once    sync.Once
	failed  error
	open    uintptr  // the real xOpen
	disks   sync.Map // path -> *disk
	opened  sync.Map // sqlite3_file -> *opened
	methods sync.Map // real io methods -> ours
}

type opened struct {
	disk *disk
	real *lib.Tsqlite3_io_methods
	log  bool
}

// keep notes what a file has that was synced.
func (o *opened) keep() {
	o.disk.mu.Lock()
	defer o.disk.mu.Unlock()
	if o.disk.kept == nil {
		return
	}
	end := ""
	if o.log {
		end = "-wal"
	}
	o.disk.kept[end], _ = os.ReadFile(o.disk.path + end)
}

// cut opens what a power cut would leave: what was synced, and nothing of what was written since.
func (d *disk) cut(t testing.TB) *DB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cut.db")
	d.mu.Lock()
	defer d.mu.Unlock()
	for end, content := range d.kept {
		if err := os.WriteFile(path+end, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return openAt(t, path)
}

var faulty vfs //nolint:gochecknoglobals // what C calls back has no other way to find it

// openFaulty opens a database on a disk that fails as it is told.
func openFaulty(t testing.TB) (*DB, *disk) {
	t.Helper()
	faulty.once.Do(func() { faulty.failed = faulty.register() })
	if faulty.failed != nil {
		t.Fatal(faulty.failed)
	}
	d := &disk{path: filepath.Join(t.TempDir(), "faulty.db")}
	faulty.disks.Store(d.path, d)
	db, err := Open(d.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() }) // it may fail, as the disk does
	return db, d
}

// again opens the same file on the same disk, which is sound again.
func (d *disk) again(t testing.TB) *DB {
	t.Helper()
	for _, code := range []*atomic.Int32{&d.syncs, &d.write, &d.reads} {
		code.Store(0)
	}
	return openAt(t, d.path)
}

func (v *vfs) register() error {
	tls := libc.NewTLS()
	lib.Xsqlite3_initialize(tls)
	standard := lib.Xsqlite3_vfs_find(tls, 0)
	if standard == 0 {
		return errors.New("no file system is registered")
	}
	ours := (*lib.Tsqlite3_vfs)(at(clone(tls, standard, unsafe.Sizeof(lib.Tsqlite3_vfs{}))))
	name, err := libc.CString("faulty")
	if err != nil {
		return err
	}
	v.open = ours.FxOpen
	ours.FzName = name
	ours.FxOpen = pointerTo(vfsOpen)
	if code := lib.Xsqlite3_vfs_register(tls, uintptr(unsafe.Pointer(ours)), 1); code != lib.SQLITE_OK {
		return errors.New("the file system was refused")
	}
	return nil
}

// at makes a pointer of C's memory, which Go's does not move.
func at(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

func clone(tls *libc.TLS, from, size uintptr) uintptr {
	to := libc.Xmalloc(tls, libc.Tsize_t(size))
	copy(unsafe.Slice((*byte)(at(to)), size), unsafe.Slice((*byte)(at(from)), size))
	return to
}

// pointerTo is f as C has it, and function the reverse, in the translation of SQLite to Go.
func pointerTo[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&struct{ f F }{f})) }

func function[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&struct{ p uintptr }{p})) }

func vfsOpen(tls *libc.TLS, self, name, file uintptr, flags int32, out uintptr) int32 {
	v := &faulty
	code := function[func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32](v.open)(tls, self, name, file, flags, out)
	if code != lib.SQLITE_OK || name == 0 {
		return code
	}
	path := libc.GoString(name)
	d, ok := v.disks.Load(strings.TrimSuffix(path, "-wal"))
	if !ok {
		return code
	}
	f := (*lib.Tsqlite3_file)(at(file))
	real := (*lib.Tsqlite3_io_methods)(at(f.FpMethods))
	v.opened.Store(file, &opened{disk: d.(*disk), real: real, log: strings.HasSuffix(path, "-wal")})
	f.FpMethods = v.methodsFor(tls, f.FpMethods)
	return code
}

// methodsFor returns the methods with ours among them.
func (v *vfs) methodsFor(tls *libc.TLS, real uintptr) uintptr {
	if ours, ok := v.methods.Load(real); ok {
		return ours.(uintptr)
	}
	p := clone(tls, real, unsafe.Sizeof(lib.Tsqlite3_io_methods{}))
	m := (*lib.Tsqlite3_io_methods)(at(p))
	m.FxShmLock = pointerTo(fileLock)
	m.FxSync, m.FxWrite, m.FxRead, m.FxClose = pointerTo(fileSync), pointerTo(fileWrite), pointerTo(fileRead), pointerTo(fileClose)
	v.methods.Store(real, p)
	return p
}

func openedFile(file uintptr) *opened {
	o, _ := faulty.opened.Load(file)
	return o.(*opened)
}

func fileClose(tls *libc.TLS, file uintptr) int32 {
	o := openedFile(file)
	faulty.opened.Delete(file)
	return function[func(*libc.TLS, uintptr) int32](o.real.FxClose)(tls, file)
}

func fileLock(tls *libc.TLS, file uintptr, offset, n, flags int32) int32 {
	o := openedFile(file)
	code := function[func(*libc.TLS, uintptr, int32, int32, int32) int32](o.real.FxShmLock)(tls, file, offset, n, flags)
	const writeLock = 0
	if code == lib.SQLITE_OK && offset == writeLock && flags&lib.SQLITE_SHM_LOCK != 0 {
		if f := o.disk.onLock.Swap(nil); f != nil {
			(*f)()
		}
	}
	return code
}

func fileSync(tls *libc.TLS, file uintptr, flags int32) int32 {
	o := openedFile(file)
	if o.log {
		o.disk.synced.Add(1)
		if gate := o.disk.onSync.Load(); gate != nil {
			<-*gate
		}
	}
	code := function[func(*libc.TLS, uintptr, int32) int32](o.real.FxSync)(tls, file, flags)
	o.keep()
	if failed := o.disk.syncs.Load(); failed != 0 && o.log {
		return failed
	}
	return code
}

func fileWrite(tls *libc.TLS, file, from uintptr, size int32, offset int64) int32 {
	o := openedFile(file)
	if failed := o.disk.write.Load(); failed != 0 && o.log {
		return failed
	}
	return function[func(*libc.TLS, uintptr, uintptr, int32, int64) int32](o.real.FxWrite)(tls, file, from, size, offset)
}

func fileRead(tls *libc.TLS, file, to uintptr, size int32, offset int64) int32 {
	o := openedFile(file)
	if f := o.disk.onRead.Swap(nil); f != nil {
		(*f)()
	}
	if failed := o.disk.reads.Load(); failed != 0 {
		return failed
	}
	return function[func(*libc.TLS, uintptr, uintptr, int32, int64) int32](o.real.FxRead)(tls, file, to, size, offset)
}
