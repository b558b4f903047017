package main

import (
	"context"
	"strings"
)

// contender keeps durable counters, numbered from 0. It is safe for concurrent use.
type contender interface {
	// increment adds one to a counter, and returns when that is durable.
	increment(ctx context.Context, counter int) error

	// cast makes durable that one will be added to a counter.
	cast(ctx context.Context, counter int) error

	// value returns a counter, with all that was added and cast before.
	value(ctx context.Context, counter int) (int64, error)

	// close ends it; its files may then be removed.
	close() error
}

// entry is a contender that can take part in a load.
type entry struct {
	name string
	// open makes n counters, all 0, in an empty directory. Without it the entry is measured on the counters of its load's subject.
	open func(ctx context.Context, dir string, n int) (contender, error)
	// start makes what runs beside these, whose directory is dir, while they are measured for this entry; nil: nothing.
	start func(ctx context.Context, dir string) (companion, error)
}

// short is the name's first word, for where there is little room.
func (e entry) short() string { word, _, _ := strings.Cut(e.name, " "); return word }

// companion runs beside a contender while one entry is measured, and not while others are.
type companion interface {
	begin(ctx context.Context)
	end() error
	spread
}

// spread is what has other processes beside this one.
type spread interface {
	// others is what they have used so far.
	others() (usage, error)
}
