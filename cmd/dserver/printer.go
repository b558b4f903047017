package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// printer writes what a command found, for people or for programs.
type printer struct {
	w    io.Writer
	errs io.Writer
	json bool

	color bool // what needs a person is red
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
		columns := slices.Clone(l.columns)
		for i, c := range cells {
			if _, isAlarm := c.(alarm); isAlarm && l.color {
				columns[i] = paint(columns[i], false)
			}
		}
		if _, err := fmt.Fprintln(l.table, strings.Join(columns, "\t")); err != nil {
			return err
		}
	}
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = fmt.Sprint(l.shown(c))
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
		if _, err := fmt.Fprintf(t, "%s\t%v\n", f.name, p.shown(f.value)); err != nil {
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
		shown[i] = p.shown(a)
	}
	_, err := fmt.Fprintf(p.w, format+"\n", shown...)
	return err
}
