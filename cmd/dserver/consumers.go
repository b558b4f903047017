package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// consumersCommand lists the processes that run consumers.
type consumersCommand struct{}

// presence is such a process as JSON has it. One of a version of the library that does not tell it has no hand.
type presence struct {
	Process string    `json:"process"`
	Host    string    `json:"host,omitempty"`
	PID     int       `json:"pid,omitempty"`
	Version string    `json:"version,omitempty"` // of the program
	Types   []string  `json:"types,omitempty"`
	Labels  []string  `json:"labels,omitempty"`
	Since   time.Time `json:"since,omitzero"` // by its clock
	Beat    time.Time `json:"beat,omitzero"`  // the last one, by its clock
	InHand  *inHand   `json:"in_hand,omitempty"`

	Unreadable string `json:"unreadable,omitempty"` // why its record cannot be read
}

// inHand is what it had in hand at its last beat.
type inHand struct {
	Turns   int `json:"turns"`
	Waiting int `json:"waiting"` // servers that waited for a turn
	Work    int `json:"work"`    // locks that were held for work
}

func newPresence(p dserver.Presence) presence {
	out := presence{
		Process: jsonName(p.Process), Host: jsonName(p.Host), PID: p.PID, Version: jsonText(p.Version),
		Since: p.Since, Beat: p.Beat, Unreadable: jsonText(p.Unreadable),
	}
	for _, typ := range p.Types {
		out.Types = append(out.Types, jsonName(typ))
	}
	for _, label := range p.Labels {
		out.Labels = append(out.Labels, jsonName(label))
	}
	if tellsHand(p) {
		out.InHand = &inHand{p.Turns, p.Waiting, p.Work}
	}
	return out
}

// tellsHand tells nothing in hand from a record that does not say: of an older version, or one that cannot be read.
func tellsHand(p dserver.Presence) bool { return !p.Since.IsZero() }

// Run prints a row per process, in the order of hosts.
func (*consumersCommand) Run(ctx context.Context, t *tool) error {
	var all []dserver.Presence
	for p, err := range dserver.Consumers(ctx, t.db) {
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	slices.SortStableFunc(all, func(a, b dserver.Presence) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.PID, b.PID))
	})
	list := t.out.list("HOST", "PID", "VERSION", "SINCE", "BEAT", "TURNS", "WAITING", "WORK", "LABELS", "TYPES")
	for _, p := range all {
		const unknown = "unknown"
		cells := []any{unknown, unknown, unknown, unknown, unknown, unknown, unknown, unknown, unknown, bad(t.unreadable(p))}
		if p.Unreadable == "" {
			cells = []any{orUnknown(p.Host), p.PID, orUnknown(p.Version), moment(p.Since), age(p.Beat), unknown, unknown, unknown, labelsOf(p), namesOf(p.Types)}
		}
		if tellsHand(p) {
			cells[5], cells[6], cells[7] = p.Turns, p.Waiting, p.Work
		}
		if err := list.add(newPresence(p), cells...); err != nil {
			return err
		}
	}
	return list.flush("no process runs a consumer")
}

func (t *tool) unreadable(p dserver.Presence) string {
	return fmt.Sprintf("the record of the process %s cannot be read: %s; %s check", p.Process, p.Unreadable, t.self())
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

// labelsOf is whose servers it runs; "" is those that are not pinned.
func labelsOf(p dserver.Presence) string {
	if len(p.Labels) == 0 {
		return namesOf([]string{""})
	}
	return namesOf(p.Labels)
}

// age is how long ago a beat was, for people. It is by two clocks: a beat that is yet to come says that they differ.
func age(beat time.Time) string {
	d := time.Since(beat).Round(time.Second)
	if d < 0 {
		return fmt.Sprintf("in %v: clocks differ", -d)
	}
	return fmt.Sprintf("%v ago", d)
}
