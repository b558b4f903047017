package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// act is what an operator did, as JSON has it.
type act struct {
	Stamp   string    `json:"stamp"`
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	Verb    string    `json:"verb"`
	Server  string    `json:"server,omitempty"`
	Message string    `json:"message,omitempty"` // its stamp
	Detail  string    `json:"detail,omitempty"`
	Before  *kept     `json:"before,omitempty"`
	After   *kept     `json:"after,omitempty"`
}

// kept is a message or a value of a state. What is too large was not kept.
type kept struct {
	Message string `json:"message,omitempty"`
	Bytes   int    `json:"bytes"`
	Body    any    `json:"body,omitempty"`
	Raw     []byte `json:"raw,omitempty"`
}

func newKept(k *dserver.Kept) *kept {
	if k == nil {
		return nil
	}
	o := &kept{Message: jsonName(k.Name), Bytes: k.Bytes}
	if k.Body != nil {
		o.Body, o.Raw = readable(k.Body)
	}
	return o
}

// text is it on one line.
func (k *kept) text() string {
	if k == nil {
		return ""
	}
	body := oneLine(k.Body, k.Raw)
	if k.Body == nil && k.Raw == nil {
		body = fmt.Sprintf("(%d bytes)", k.Bytes)
	}
	if k.Message != "" {
		body = k.Message + " " + body
	}
	return body
}

// auditCommand lists what operators did.
type auditCommand struct {
	Server server `arg:"" optional:"" help:"Only what was done to this server."`
	By     text   `help:"Only what was done by whom." placeholder:"NAME"`
	limit
}

// Run prints a row per act.
func (c *auditCommand) Run(ctx context.Context, t *tool) error {
	list := t.out.list("AT", "BY", "VERB", "SERVER", "MESSAGE", "DETAIL", "BEFORE", "AFTER")
	for found, err := range dserver.Audit(ctx, t.db) {
		if err != nil {
			return err
		}
		if c.Server != (server{}) && c.Server.Ref != found.Ref || c.By != "" && string(c.By) != found.By {
			continue
		}
		if c.isReached(list) {
			return errors.Join(list.flush(""), t.out.more(list.rows))
		}
		a := act{
			Stamp: found.Stamp.String(), At: found.At, By: jsonName(found.By), Verb: found.Verb, Server: jsonName(found.Ref.String()),
			Detail: jsonText(found.Detail), Before: newKept(found.Before), After: newKept(found.After),
		}
		if !found.Message.IsZero() {
			a.Message = found.Message.String()
		}
		where := any(found.Ref)
		if found.Ref == (dserver.Ref{}) { // a repair of what belongs to no server
			where, a.Server = "", ""
		}
		if err := list.add(a, moment(a.At), found.By, a.Verb, where, a.Message, found.Detail, a.Before.text(), a.After.text()); err != nil {
			return err
		}
	}
	return list.flush("no operator has done anything that is written down")
}
