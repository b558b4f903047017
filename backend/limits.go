package backend

import (
	"fmt"
	"time"
)

// The limits of every backend. They are FoundationDB's, less what its own bookkeeping and the store's root need.
const (
	MaxKeyBytes         = 8 << 10         // of a key, a versionstamp that Append adds included
	MaxValueBytes       = 100_000         // of a value
	MaxTransactionBytes = 9_000_000       // of all that a transaction writes and all conflicts that it has, see Size
	MaxAppends          = 1 << 16         // Append calls of a transaction: two bytes number them
	MaxDuration         = 5 * time.Second // from a transaction's first read to its commit
	MaxClose            = MaxDuration     // Close waits for functions that run: later than that they could not commit
)

// Size adds up a transaction as FoundationDB does: writes, and the ranges that they and the reads conflict on.
// Every backend counts with it, so that they refuse the same transactions. The zero value is an empty transaction.
type Size struct{ bytes, appends int }

// What a write and a conflict range cost beside their keys and value.
const (
	writeOverhead    = 40
	conflictOverhead = 20
)

// Write counts a Set, Add or Stamp.
func (s *Size) Write(key Key, valueBytes int) error {
	if len(key) > MaxKeyBytes {
		return fmt.Errorf("%w: a key of %d bytes; at most %d", ErrTooLarge, len(key), MaxKeyBytes)
	}
	if valueBytes > MaxValueBytes {
		return fmt.Errorf("%w: a value of %d bytes at %v; at most %d", ErrTooLarge, valueBytes, key, MaxValueBytes)
	}
	return s.add(writeOverhead + 3*len(key) + valueBytes)
}

// Append counts an Append.
func (s *Size) Append(prefix Key, valueBytes int) error {
	if s.appends++; s.appends > MaxAppends {
		return fmt.Errorf("%w: more than %d appends in a transaction", ErrTooLarge, MaxAppends)
	}
	if len(prefix)+stampBytes > MaxKeyBytes {
		return fmt.Errorf("%w: a key of %d bytes; at most %d", ErrTooLarge, len(prefix)+stampBytes, MaxKeyBytes)
	}
	if valueBytes > MaxValueBytes {
		return fmt.Errorf("%w: a value of %d bytes below %v; at most %d", ErrTooLarge, valueBytes, prefix, MaxValueBytes)
	}
	return s.add(writeOverhead + 3*(len(prefix)+stampBytes) + valueBytes)
}

// Clear counts a Clear.
func (s *Size) Clear(r Range) error {
	if longest := max(len(r.Begin), len(r.End)); longest > MaxKeyBytes+1 {
		return fmt.Errorf("%w: a key of %d bytes; at most %d", ErrTooLarge, longest, MaxKeyBytes)
	}
	return s.add(writeOverhead + 2*(len(r.Begin)+len(r.End)))
}

// Conflict counts a range that was read.
func (s *Size) Conflict(r Range) error {
	return s.add(conflictOverhead + len(r.Begin) + len(r.End))
}

// ConflictKey counts a Conflict.
func (s *Size) ConflictKey(key Key) error {
	return s.add(conflictOverhead + 2*len(key) + 1)
}

// Statement counts a statement.
func (s *Size) Statement(x Statement) error { return s.add(writeOverhead + x.bytes()) }

func (s *Size) add(bytes int) error {
	if s.bytes += bytes; s.bytes > MaxTransactionBytes {
		return fmt.Errorf("%w: a transaction of more than %d bytes", ErrTooLarge, MaxTransactionBytes)
	}
	return nil
}
