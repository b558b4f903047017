package console

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
)

// An act is a page and what it does:
//
//  1. GET shows what will happen, with the form for what has to be said.
//  2. POST reads what is there anew, so that nothing rests on what the page has shown. What is written by hand is shown once
//     more beside what was (the step "preview"), and what cannot be taken back needs a box to be ticked.
//  3. Then it is done, in the transaction of package dserver that refuses it when it comes too late, and the browser goes on to
//     the page that shows the outcome.
//
// What takes nothing away (pause, resume, retry) is a button, and comes to step 3 at once.

// actPage is an act as its page shows it.
type actPage struct {
	Verb     string
	Ref      dserver.Ref
	Stamp    backend.Versionstamp // of the message that it is about; zero: none
	Title    string
	Says     []string // what will happen
	Button   string
	Danger   bool
	Sure     bool // a box has to be ticked
	Previews bool // it has a step in which what is to be stands beside what is
	Preview  bool // this is it
	Before   string
	After    string
	Error    string
	Form     url.Values

	db      backend.Database
	message dserver.Message // that is there
	seen    string
	do      func(ctx context.Context) (done string, err error)
}

// Value is what was written into a field, or what stands there at first.
func (a *actPage) Value(name string) string { return a.Form.Get(name) }

// Rows is how high the field of a text is.
func (a *actPage) Rows(name string) int { return min(max(strings.Count(a.Value(name), "\n")+3, 5), 28) }

// About reports whether it is about a message.
func (a *actPage) About() bool { return !a.Stamp.IsZero() }

// preparer reads what is there, and says what will be done to it.
type preparer func(ctx context.Context, a *actPage) error

// The acts, by their words in addresses.
var (
	serverPreparers = map[string]preparer{
		"pause": preparePause, "resume": prepareResume, "unlock": prepareUnlock, "pin": preparePin, "reset": prepareReset, "kill": prepareKill,
		"cast": prepareCast, "set": prepareSet, "withdraw": prepareWithdraw,
		"delete-all": prepareDeleteAll, "retry-all": prepareRetryAll, "discard-all": prepareDiscardAll,
	}
	messagePreparers = map[string]preparer{
		"delete": prepareDelete, "edit": prepareEdit, "retry": prepareRetry, "discard": prepareDiscard,
	}
)

// act serves an act.
func (c *console) act(preparers map[string]preparer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u, err := c.user(r)
		if err == nil && !u.Act {
			err = forbidden("You may look, and not act.")
		}
		var a *actPage
		if err == nil {
			a, err = c.actOf(r, preparers)
		}
		if err != nil {
			c.fail(w, r, u, err)
			return
		}
		ctx := dserver.WithActor(r.Context(), u.Name)
		if err := preparers[a.Verb](ctx, a); err != nil {
			c.refuse(w, r, u, a, err)
			return
		}
		switch step := a.Value("step"); {
		case r.Method == http.MethodGet || step == "edit":
			a.Preview = false
		case a.Previews && step != "do":
			a.Preview = a.Error == "" && step == "preview"
		case a.Sure && a.Value("sure") != "yes":
			a.Error, a.Preview = "Tick the box first: this cannot be taken back.", a.Previews
		case a.Error == "":
			done, err := a.do(ctx)
			if err != nil {
				c.refuse(w, r, u, a, err)
				return
			}
			redirect(w, rootOf(r.URL.Path)+serverPath(a.Ref)+"?done="+done)
			return
		}
		c.renderAct(w, r, u, a, 0)
	}
}

// actOf is what a request says.
func (c *console) actOf(r *http.Request, preparers map[string]preparer) (*actPage, error) {
	ref, err := refIn(r)
	if err != nil {
		return nil, err
	}
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	a := &actPage{Verb: r.PathValue("verb"), Ref: ref, Form: r.PostForm, db: c.db}
	if r.Method == http.MethodGet {
		a.Form = r.URL.Query()
	} else if delayed := r.URL.Query().Get("delayed"); delayed != "" {
		a.Form.Set("delayed", delayed)
	}
	if stamp := r.PathValue("stamp"); stamp != "" {
		if a.Stamp, err = stampIn(stamp); err != nil {
			return nil, err
		}
	}
	if preparers[a.Verb] == nil {
		return nil, notFound("There is no such act.")
	}
	return a, nil
}

// refuse shows why an act could not be done: on its page, where the form can be mended, or on one of its own.
func (c *console) refuse(w http.ResponseWriter, r *http.Request, u User, a *actPage, err error) {
	status, text := statusOf(err)
	if a.do == nil || status == http.StatusNotFound {
		c.fail(w, r, u, err)
		return
	}
	a.Error, a.Preview = display.Visible(text), false
	c.renderAct(w, r, u, a, status)
}

func (c *console) renderAct(w http.ResponseWriter, r *http.Request, u User, a *actPage, status int) {
	if a.Error != "" && status == 0 {
		status = http.StatusUnprocessableEntity
	}
	c.render(w, r, &view{name: "act", title: a.Title, status: status}, u, a)
}

// server is a handle of the act's server.
func (a *actPage) server() *dserver.DServer[any] { return a.Ref.At(a.db) }

// name is the act's server as texts show it.
func (a *actPage) name() string { return display.Quoted(a.Ref.String()) }

// notices are what a page says after an act, by the word in its address.
var notices = map[string]string{
	"paused":      "It is paused. What is sent to it waits until somebody resumes it.",
	"resumed":     "It goes on.",
	"unlocked":    "The locked work is ended. Its message is among the dead letters.",
	"pinned":      "It runs where the label is listed.",
	"pinned-lone": "It is pinned. No consumer of its type lists this label now, so its messages wait for one.",
	"reset":       "Its state is forgotten.",
	"killed":      "It is removed.",
	"cast":        "The message was sent.",
	"set":         "The state is changed.",
	"withdrawn":   "The delayed message is deleted.",
	"deleted":     "The message is deleted.",
	"edited":      "The message was changed in its place, and has all its attempts again.",
	"retried":     "The message was put on the queue again. If it fails again, it is back among the dead letters.",
	"discarded":   "The dead letter is discarded.",
	"several":     "It is done.",
	"several-cut": "The first 1 000 are done. There are more: do it again.",
	"nothing":     "There was nothing to do any more.",
}

// lane is the option for those sent again ahead of the queue.
func (a *actPage) lane() []dserver.Option {
	if a.Value("priority") == "yes" {
		return []dserver.Option{dserver.Priority()}
	}
	return nil
}

// isListed reports whether a process says that it runs the servers of a type that have a label. One that tells no types may.
func isListed(ctx context.Context, db backend.Database, typ, label string) (bool, error) {
	for p, err := range dserver.Consumers(ctx, db) {
		if err != nil {
			return false, err
		}
		if (len(p.Types) == 0 || slices.Contains(p.Types, typ)) && (len(p.Labels) == 0 && label == "" || slices.Contains(p.Labels, label)) {
			return true, nil
		}
	}
	return false, nil
}
