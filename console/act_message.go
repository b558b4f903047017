package console

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
)

// What acts on messages take.
const (
	maxEdited  = 1 << 20 // bytes of a body, as a page has it in a field
	maxSeveral = 1000    // messages that one request does something to
)

func (a *actPage) queued(ctx context.Context) (dserver.Queued, error) {
	q, err := a.server().Queued(ctx, a.Stamp)
	a.show(q.Message)
	return q, gone404(err, "The message does not wait any more: it was handled, deleted, or set aside. Nothing was done.")
}

func (a *actPage) letter(ctx context.Context) (dserver.DeadLetter, error) {
	d, err := a.server().DeadLetter(ctx, a.Stamp)
	a.show(d.Message)
	return d, gone404(err, "The message is not among the dead letters any more: it was retried or discarded. Nothing was done.")
}

func gone404(err error, text string) error {
	if errors.Is(err, dserver.ErrNotFound) {
		return notFound(text)
	}
	return err
}

// show keeps a message for the page.
func (a *actPage) show(m dserver.Message) {
	a.message, a.seen = m, seenAs(m)
	a.Before = bodyText(m.Body)
}

func bodyText(body []byte) string {
	v, raw := display.Readable(body)
	if raw != nil {
		return fmt.Sprintf("(no CBOR: %s)", size(len(raw)))
	}
	return display.Shorten(display.Indented(v), maxShown)
}

func (a *actPage) messageName() string { return display.Quoted(orNameless(a.message.Name)) }

func prepareDelete(ctx context.Context, a *actPage) error {
	q, err := a.queued(ctx)
	if err != nil {
		return err
	}
	a.Title, a.Button, a.Danger = "Delete "+a.messageName()+" of "+a.name(), "Delete it", true
	a.Says = []string{"The message is taken off the queue, and is not handled. The next one is handled at once."}
	if q.Call {
		a.Says = append(a.Says, "Somebody waits for its answer, and is told that it was withdrawn.")
	}
	a.do = func(ctx context.Context) (string, error) { return "deleted", a.server().Withdraw(ctx, q.Stamp) }
	return nil
}

func prepareRetry(ctx context.Context, a *actPage) error {
	d, err := a.letter(ctx)
	if err != nil {
		return err
	}
	a.Title, a.Button = "Retry "+a.messageName()+" of "+a.name(), "Retry"
	a.Says = []string{"The message goes to the end of the queue, as it is."}
	a.do = func(ctx context.Context) (string, error) { return "retried", a.server().Retry(ctx, d, a.lane()...) }
	return nil
}

func prepareDiscard(ctx context.Context, a *actPage) error {
	d, err := a.letter(ctx)
	if err != nil {
		return err
	}
	a.Title, a.Button, a.Danger = "Discard "+a.messageName()+" of "+a.name(), "Discard it", true
	a.Says = []string{"The dead letter is removed, and its message is lost, but for what the list of acts keeps of it."}
	a.do = func(ctx context.Context) (string, error) { return "discarded", a.server().Discard(ctx, d) }
	return nil
}

// prepareEdit changes a message in its place on the queue, or a dead letter, which is sent again.
func prepareEdit(ctx context.Context, a *actPage) error {
	a.Previews = true
	q, err := a.queued(ctx)
	var r *refusal
	isLetter := errors.As(err, &r)
	var d dserver.DeadLetter
	if isLetter {
		d, err = a.letter(ctx)
	}
	if err != nil {
		return err
	}
	a.Title, a.Button = "Edit "+a.messageName()+" of "+a.name(), "Change it in its place"
	a.Says = []string{"The message keeps its place on the queue and its caller, and has all its attempts again."}
	if isLetter {
		a.Button, a.Says = "Send it again", []string{"The message goes to the end of the queue, as it is written here, and the dead letter is removed."}
	}
	if len(a.message.Body) > maxEdited {
		return badRequest(fmt.Sprintf("A body of %s is too large for a page. The tool takes it from a file: dserver edit --body -.", size(len(a.message.Body))))
	}
	changed, err := a.changed()
	if err != nil {
		a.Error = display.Visible(err.Error())
	}
	a.do = func(ctx context.Context) (string, error) {
		if a.Value("seen") != a.seen {
			return "", fmt.Errorf("%w: the message is not as it was seen", dserver.ErrChanged)
		}
		if isLetter {
			d.Message = changed
			return "retried", a.server().Retry(ctx, d, a.lane()...)
		}
		return "edited", a.server().Mend(ctx, q, changed)
	}
	return nil
}

// changed is the message as the form has it; as it is, where the form says nothing yet.
func (a *actPage) changed() (m dserver.Message, err error) {
	m = a.message
	if !a.Form.Has("step") {
		a.Form.Set("name", display.Quoted(m.Name))
		if m.Name == "" {
			a.Form.Set("name", "")
		}
		a.Form.Set("body", a.bodyField())
		return m, nil
	}
	if m.Name, err = display.Unquoted(strings.TrimSpace(a.Value("name"))); err != nil {
		return m, err
	}
	if m.Name == "" {
		return m, badRequest("The message needs a name.")
	}
	if a.IsNotation() {
		m.Body, err = display.ParseNotation(a.Value("body"))
	} else {
		m.Body, err = display.Encode([]byte(a.Value("body")), a.message.Body)
	}
	if err != nil {
		return m, badRequest("The body: " + err.Error() + ".")
	}
	a.Before, a.After = display.Quoted(orNameless(a.message.Name))+"\n"+a.text(a.message.Body), display.Quoted(m.Name)+"\n"+a.text(m.Body)
	return m, nil
}

// IsNotation reports whether the body is written in CBOR's diagnostic notation, which says what JSON cannot.
func (a *actPage) IsNotation() bool { return a.Value("as") == "cbor" }

// bodyField is the body as the form has it at first; nothing where it cannot be said so.
func (a *actPage) bodyField() string {
	if a.IsNotation() {
		text, err := display.Notation(a.message.Body)
		if err != nil {
			return ""
		}
		return text
	}
	v, raw := display.Readable(a.message.Body)
	if raw != nil {
		return ""
	}
	return display.Indented(v)
}

// text is a body as the form writes it.
func (a *actPage) text(body []byte) string {
	if text, err := display.Notation(body); err == nil && a.IsNotation() {
		return display.Shorten(text, maxShown)
	}
	return bodyText(body)
}

// several does something to each message that the form chooses, each in a transaction of its own.
func several[M any](
	ctx context.Context, all iter.Seq2[M, error], takes func(M) bool, do func(ctx context.Context, m M) error,
) (string, error) {
	var chosen []M // before anything is done: what is set aside anew is not taken again
	done, cut := "nothing", false
	for m, err := range all {
		if err != nil {
			return "", err
		}
		if !takes(m) {
			continue
		}
		if cut = len(chosen) == maxSeveral; cut {
			break
		}
		chosen = append(chosen, m)
	}
	for i, m := range chosen {
		err := do(ctx, m)
		switch {
		case errors.Is(err, dserver.ErrNotFound): // somebody else has taken it meanwhile
		case err != nil:
			return "", fmt.Errorf("after %d of %d: %w", i, len(chosen), err)
		default:
			done = "several"
		}
	}
	if cut && done == "several" {
		done = "several-cut"
	}
	return done, nil
}

// counted says how many messages are chosen, as of now.
func counted[M any](all iter.Seq2[M, error], takes func(M) bool) (text string, err error) {
	n := 0
	for m, err := range all {
		if err != nil {
			return "", err
		}
		if !takes(m) {
			continue
		}
		if n++; n > maxSeveral {
			return fmt.Sprintf("more than %d", maxSeveral), nil
		}
	}
	return fmt.Sprint(n), nil
}

func (a *actPage) takesLetter(d dserver.DeadLetter) bool {
	code, name := a.Value("code"), a.Value("message")
	return (code == "" || code == d.Err.Code) && (name == "" || name == d.Message.Name)
}

// ofLetters prepares what is done to several dead letters.
func (a *actPage) ofLetters(ctx context.Context, says string, do func(ctx context.Context, d dserver.DeadLetter) error) error {
	a.Previews = true
	n, err := counted(a.server().DeadLetters(ctx), a.takesLetter)
	if err != nil {
		return err
	}
	a.Says = []string{says}
	a.After = "Dead letters that are chosen: " + n
	a.do = func(ctx context.Context) (string, error) {
		return several(ctx, a.server().DeadLetters(ctx), a.takesLetter, do)
	}
	return nil
}

func prepareRetryAll(ctx context.Context, a *actPage) error {
	a.Title, a.Button = "Retry dead letters of "+a.name(), "Retry them"
	return a.ofLetters(ctx, "Those that are chosen go to the end of the queue, as they are, the oldest first.", func(ctx context.Context, d dserver.DeadLetter) error {
		return a.server().Retry(ctx, d, a.lane()...)
	})
}

func prepareDiscardAll(ctx context.Context, a *actPage) error {
	a.Title, a.Button, a.Danger, a.Sure = "Discard dead letters of "+a.name(), "Discard them", true, true
	return a.ofLetters(ctx, "Those that are chosen are removed, and their messages are lost.", func(ctx context.Context, d dserver.DeadLetter) error {
		return a.server().Discard(ctx, d)
	})
}

func prepareDeleteAll(ctx context.Context, a *actPage) error {
	a.Title, a.Button, a.Danger, a.Sure, a.Previews = "Delete messages of "+a.name(), "Delete them", true, true, true
	a.Says = []string{"Those that are chosen are taken off the queue, and are not handled. Their callers are told."}
	takes := func(q dserver.Queued) bool { return a.Value("message") == "" || a.Value("message") == q.Message.Name }
	n, err := counted(a.server().Queue(ctx), takes)
	if err != nil {
		return err
	}
	a.After = "Messages that are chosen: " + n
	a.do = func(ctx context.Context) (string, error) {
		return several(ctx, a.server().Queue(ctx), takes, func(ctx context.Context, q dserver.Queued) error { return a.server().Withdraw(ctx, q.Stamp) })
	}
	return nil
}

// bodyOf is the body of a message wherever it is.
func bodyOf(ctx context.Context, db backend.Database, ref dserver.Ref, stamp backend.Versionstamp) ([]byte, error) {
	q, err := ref.At(db).Queued(ctx, stamp)
	if err == nil || !errors.Is(err, dserver.ErrNotFound) {
		return q.Message.Body, err
	}
	d, err := ref.At(db).DeadLetter(ctx, stamp)
	return d.Message.Body, gone404(err, "The message is not there any more.")
}
