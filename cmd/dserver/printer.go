package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// printer writes what a command found, for people or for programs.
type printer struct {
	w    io.Writer
	errs io.Writer
	json bool
}

// list begins a list with these columns. Its flush ends it.
func (p printer) list(columns ...string) *list {
	l := &list{printer: p}
	if !p.json {
		l.table = tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
		l.columns = columns
	}
	return l
}

// list is rows below each other. As JSON each is an object on a line of its own.
type list struct {
	printer
	table   *tabwriter.Writer
	columns []string
	rows    int
}

// add writes a row: cells for people, object for programs.
func (l *list) add(object any, cells ...any) error {
	l.rows++
	if l.json {
		return l.object(object)
	}
	if l.rows == 1 {
		if _, err := fmt.Fprintln(l.table, strings.Join(l.columns, "\t")); err != nil {
			return err
		}
	}
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = fmt.Sprint(shownValue(c))
	}
	_, err := fmt.Fprintln(l.table, strings.Join(texts, "\t"))
	return err
}

// flush writes what is left. A list without rows says so to people.
func (l *list) flush(nothing string) error {
	switch {
	case l.json:
		return nil
	case l.rows == 0:
		_, err := fmt.Fprintln(l.w, nothing)
		return err
	}
	return l.table.Flush()
}

// object writes one object on one line.
func (p printer) object(v any) error {
	_, err := fmt.Fprintln(p.w, compact(v))
	return err
}

// field is a line of what describes one thing.
type field struct {
	name  string
	value any
}

// fields writes one thing: lines for people, object for programs.
func (p printer) fields(object any, fields ...field) error {
	if p.json {
		return p.object(object)
	}
	t := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	for _, f := range fields {
		if _, err := fmt.Fprintf(t, "%s\t%v\n", f.name, shownValue(f.value)); err != nil {
			return err
		}
	}
	return t.Flush()
}

// line writes one sentence for people, object for programs.
func (p printer) line(object any, format string, args ...any) error {
	if p.json {
		return p.object(object)
	}
	shown := make([]any, len(args))
	for i, a := range args {
		shown[i] = shownValue(a)
	}
	_, err := fmt.Fprintf(p.w, format+"\n", shown...)
	return err
}
