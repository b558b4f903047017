package console

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
	"github.com/dserver-go/dserver/statediff"
)

func preparePause(_ context.Context, a *actPage) error {
	a.Title, a.Button = "Pause "+a.name(), "Pause"
	a.Says = []string{"Nothing of it is handled until somebody resumes it. What is sent to it waits, and nobody is refused."}
	a.do = func(ctx context.Context) (string, error) { return "paused", a.server().Pause(ctx) }
	return nil
}

func prepareResume(_ context.Context, a *actPage) error {
	a.Title, a.Button = "Resume "+a.name(), "Resume"
	a.Says = []string{"It goes on with its next message. A message that has halted it has all its attempts again."}
	a.do = func(ctx context.Context) (string, error) { return "resumed", a.server().Resume(ctx) }
	return nil
}

func prepareUnlock(ctx context.Context, a *actPage) error {
	status, err := a.server().Status(ctx)
	if err != nil {
		return err
	}
	if !status.Locked {
		return notFound("It is not locked any more. Nothing was done.")
	}
	a.Title, a.Button, a.Danger = "Unlock "+a.name(), "End the work", true
	a.Says = []string{
		fmt.Sprintf("The locked work of %s ends: its message becomes a dead letter, its caller is told, and what the work may still return is refused.",
			display.Quoted(orNameless(status.Lock.Message))),
		"The other system may have done what it was asked. Somebody has to look.",
	}
	a.do = func(ctx context.Context) (string, error) { return "unlocked", a.server().Unlock(ctx) }
	return nil
}

func preparePin(ctx context.Context, a *actPage) error {
	status, err := a.server().Status(ctx)
	if err != nil {
		return err
	}
	a.Title, a.Button = "Pin "+a.name(), "Pin"
	a.Says = []string{"It moves to the consumers that list the label. Its messages wait while nobody does. Without a label it is not pinned."}
	if !a.Form.Has("label") {
		a.Form.Set("label", status.Label)
	}
	label := a.Value("label")
	a.do = func(ctx context.Context) (string, error) {
		if err := a.server().Pin(ctx, label); err != nil {
			return "", err
		}
		listed, err := isListed(ctx, a.db, a.Ref.Type, label)
		if err != nil || listed {
			return "pinned", err
		}
		return "pinned-lone", nil
	}
	return nil
}

func prepareReset(ctx context.Context, a *actPage) error {
	status, err := a.server().Status(ctx)
	if err != nil {
		return err
	}
	a.Title, a.Button, a.Danger, a.Sure = "Reset "+a.name(), "Forget the state", true, true
	a.Says = []string{
		"Its state, its lock and its timers are removed. The caller of locked work is told.",
		fmt.Sprintf("Its queue (%d) and its dead letters (%d) stay, and its next message finds a new server.", status.Queued, status.DeadLetters),
	}
	a.do = func(ctx context.Context) (string, error) { return "reset", a.server().Reset(ctx) }
	return nil
}

func prepareKill(ctx context.Context, a *actPage) error {
	status, err := a.server().Status(ctx)
	if err != nil {
		return err
	}
	a.Title, a.Button, a.Danger, a.Sure = "Kill "+a.name(), "Remove it", true, true
	a.Says = []string{
		fmt.Sprintf("All of it is removed: its state, its lock, its timers, its queue (%d), what is delayed (%d) and its dead letters (%d).",
			status.Queued, status.Delayed, status.DeadLetters),
		"Callers that wait are told. A message that is sent later finds a new server.",
	}
	a.do = func(ctx context.Context) (string, error) { return "killed", a.server().Kill(ctx) }
	return nil
}

func prepareCast(_ context.Context, a *actPage) error {
	a.Title, a.Button = "Send a message to "+a.name(), "Send"
	a.Says = []string{"The body is JSON. JSON has neither bytes nor times: such fields come as text.", "What is sent is not in the audit."}
	if !a.Form.Has("body") {
		a.Form.Set("body", "{}")
	}
	a.do = func(ctx context.Context) (string, error) {
		name, err := display.Unquoted(strings.TrimSpace(a.Value("name")))
		if err != nil {
			return "", badRequest(err.Error())
		}
		if name == "" {
			return "", badRequest("Which message? Give its name.")
		}
		m := dserver.Message{Name: name}
		if m.Body, err = display.Encode([]byte(a.Value("body")), nil); err != nil {
			return "", badRequest("The body: " + err.Error() + ". Nothing was sent.")
		}
		how := a.lane()
		if once := a.Value("once"); once != "" {
			how = append(how, dserver.Once(once))
		}
		if after := strings.TrimSpace(a.Value("after")); after != "" {
			d, err := time.ParseDuration(after)
			if err != nil || d <= 0 {
				return "", badRequest("The delay is a time such as 90s, 5m or 1h30m. Nothing was sent.")
			}
			how = append(how, dserver.After(d))
		}
		return "cast", a.server().Cast(ctx, m, how...)
	}
	return nil
}

func prepareWithdraw(_ context.Context, a *actPage) error {
	id := a.Value("delayed")
	a.Title, a.Button, a.Danger = "Delete what is delayed of "+a.name(), "Delete", true
	a.Says = []string{"What was sent with a delay is deleted before its time. Its caller is told."}
	a.do = func(ctx context.Context) (string, error) { return "withdrawn", a.server().WithdrawDelayed(ctx, id) }
	return nil
}

// prepareSet changes a place in the state, over the version that was seen.
func prepareSet(ctx context.Context, a *actPage) error {
	a.Title, a.Button, a.Previews = "Change the state of "+a.name(), "Change it", true
	a.Says = []string{"No handler runs. If the state is changed meanwhile, nothing is done. Pause the server first where its messages are faster than you."}
	state, version, err := a.server().Versioned(ctx)
	switch {
	case err != nil:
		return err
	case version.IsZero():
		return notFound("It has no state: it has handled no message, or was reset.")
	}
	a.seen = version.String()
	var path display.Place
	given := strings.TrimSpace(a.Value("path"))
	if given == "" {
		a.do = func(context.Context) (string, error) {
			return "", badRequest("Which place? Write names with slashes between them.")
		}
		if a.Form.Has("step") {
			a.Error = "Which place? Write names with slashes between them, as Items/0/Number."
		}
		return nil
	}
	if err := path.UnmarshalText([]byte(given)); err != nil {
		a.Error = display.Visible(err.Error())
		return nil
	}
	change := statediff.Change{Path: path, Create: a.Value("how") == "create", Remove: a.Value("how") == "remove"}
	was, err := path.In(state)
	if err != nil && !change.Create {
		a.Error = display.Visible(err.Error()) + ". To make it, choose that there is nothing yet."
		return nil
	}
	if !change.Create {
		a.Before = display.Indented(display.Plain(was))
	}
	if !a.Form.Has("value") {
		a.Form.Set("value", a.Before)
	}
	a.setValue(&change, was)
	a.do = func(ctx context.Context) (string, error) {
		seen, err := backend.ParseVersionstamp(a.Value("seen"))
		if err != nil {
			return "", badRequest("The form does not say which state was seen. Nothing was done.")
		}
		_, err = a.server().ChangeState(ctx, seen, change)
		if errors.Is(err, statediff.ErrNoPath) {
			return "", badRequest(err.Error() + ". Nothing was done.")
		}
		return "set", err
	}
	return nil
}

// setValue reads what is to be.
func (a *actPage) setValue(change *statediff.Change, was any) {
	if change.Remove {
		a.After = "(removed: a field becomes zero, a map loses the entry)"
		return
	}
	if !a.Form.Has("step") {
		return
	}
	value, err := display.StateValue([]byte(a.Value("value")), was)
	if err != nil {
		a.Error = "The value: " + display.Visible(err.Error()) + "."
		return
	}
	change.Value, a.After = value, display.Indented(display.Plain(value))
}

// Seen is the version, or the message, that the page shows: what is done is done to that alone.
func (a *actPage) Seen() string {
	if given := a.Value("seen"); given != "" {
		return given
	}
	return a.seen
}
