package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// presence is a process that runs consumers, as pages show it.
type presence struct{ dserver.Presence }

func newPresence(p dserver.Presence) presence { return presence{p} }

// Tells reports whether it tells what it has in hand: records of older versions do not.
func (p presence) Tells() bool { return !p.Since.IsZero() }

// LabelNames is whose servers it runs; "" is those that are not pinned.
func (p presence) LabelNames() []string {
	if len(p.Labels) == 0 {
		return []string{""}
	}
	return p.Labels
}

// silence is after which a process that has not beaten is probably dead: it beats every 10 to 13 seconds.
const silence = 30 * time.Second

// State says whether it lives, as far as that is known.
func (p presence) State() string {
	switch {
	case p.Unreadable != "":
		return "unreadable"
	case p.Alive:
		return "alive"
	case p.Dead || time.Since(p.Beat) > silence:
		return "silent"
	}
	return "beats"
}

// Clock says how its clock differs; "" when no difference was seen.
func (p presence) Clock() string {
	switch {
	case p.Ahead > 0:
		return fmt.Sprintf("its clock is ahead by %v", p.Ahead.Round(time.Second))
	case p.Ahead < 0:
		return fmt.Sprintf("its clock is behind by %v", -p.Ahead.Round(time.Second))
	}
	return ""
}

type consumersData struct {
	Consumers []presence
	Cut       bool
}

type consumersSource struct{ reader *reader }

func (c *console) consumers(*http.Request) (*view, error) {
	return &view{name: "consumers", title: "Consumers", section: "consumers", regions: []string{"list"}, source: consumersSource{c.reader}}, nil
}

func (s consumersSource) load(ctx context.Context) (any, error) {
	r, err := s.reader.read(ctx)
	if err != nil {
		return nil, err
	}
	d := consumersData{Cut: len(r.consumers) == maxConsumers}
	for _, p := range r.consumers {
		d.Consumers = append(d.Consumers, newPresence(p))
	}
	return d, nil
}
