//go:build linux || darwin || freebsd

package sqlite

import (
	"math"
	"syscall"
)

// freeBytes is what the file system of path has room for, or more than any commit needs where that is not known.
func freeBytes(path string) int64 {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return math.MaxInt64
	}
	blocks, size := uint64(max(0, int64(s.Bavail))), uint64(s.Bsize)
	if size != 0 && blocks > math.MaxInt64/size {
		return math.MaxInt64
	}
	return int64(blocks * size)
}
