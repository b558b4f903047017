package sqlite

import (
	"os"
	"runtime"
	"syscall"
	"testing"
)

// asNobody runs f without the rights of root, for whom nothing is read-only.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		f()
		return
	}
	const nobody, same = 65534, ^uintptr(0)
	runtime.LockOSThread() // the user is the thread's
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, same, nobody, same); errno != 0 {
		t.Fatal(errno)
	}
	defer func() {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, same, 0, same); errno != 0 {
			t.Error(errno) // the thread ends with the goroutine, as it is still locked
			return
		}
		runtime.UnlockOSThread()
	}()
	f()
}
