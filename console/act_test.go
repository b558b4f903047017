package console_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/console"
	"github.com/dserver-go/dserver/dserver"
)

// form is the pairs of a form.
func form(pairs ...string) url.Values {
	all := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		all.Add(pairs[i], pairs[i+1])
	}
	return all
}

// seenIn is what a form says that was seen.
func seenIn(t testing.TB, a answer) string {
	t.Helper()
	m := regexp.MustCompile(`name="seen" value="([^"]+)"`).FindStringSubmatch(a.body)
	if m == nil {
		t.Fatalf("%s does not say what was seen: %s", a.url, a.text())
	}
	return html.UnescapeString(m[1])
}

// does expects that a form is done, and that the page to which the browser goes on shows it.
func (s *site) does(path string, f url.Values, shows ...string) {
	s.t.Helper()
	a := s.ask(http.MethodPost, path, f, nil)
	if a.status != http.StatusSeeOther {
		s.t.Fatalf("%s is %d: %s", path, a.status, a.text())
	}
	at, err := url.Parse(a.url)
	must(s.t, err)
	to, err := at.Parse(a.header.Get("Location"))
	must(s.t, err)
	s.get(to.String()).shows(shows...)
}

// refuses expects that a form is refused, and why.
func (s *site) refuses(path string, f url.Values, status int, shows ...string) {
	s.t.Helper()
	if f == nil {
		f = url.Values{}
	}
	a := s.ask(http.MethodPost, path, f, nil)
	if a.status != status {
		s.t.Errorf("%s is %d, not %d: %s", path, a.status, status, a.text())
	}
	a.shows(shows...)
}

// audited is the verb of the latest act, which was the operator's.
func audited(t testing.TB, db backend.Database, verb string) {
	t.Helper()
	for a, err := range dserver.Audit(t.Context(), db) {
		must(t, err)
		if a.Verb != verb || a.By != operator.Name {
			t.Errorf("the audit says %s by %s, not %s", a.Verb, a.By, verb)
		}
		return
	}
	t.Errorf("nothing is in the audit, which lacks %s", verb)
}

func operated(t testing.TB) (*site, backend.Database) {
	t.Helper()
	db := program(t)
	return serve(t, db, console.Options{Authorize: as(operator)}), db
}

func TestAServerIsPausedAndResumed(t *testing.T) {
	t.Parallel()
	s, db := operated(t)
	must(t, orders.At(db, "1").Call(t.Context(), add{"tea"}, nil))
	s.does("server/order/1/do/pause", form(), "It is paused.", "paused by ada@ops")
	audited(t, db, "Pause")
	if !statusOf(t, db, "order/1").Paused {
		t.Error("it is not paused")
	}
	s.does("server/order/1/do/resume", form(), "It goes on.")
	audited(t, db, "Resume")
	if statusOf(t, db, "order/1").Paused {
		t.Error("it is paused yet")
	}
	s.refuses("server/order/1/do/resume", form(), http.StatusNotFound, "It is not there any more", "Nothing was done")
}

func TestAHaltedServerGoesOn(t *testing.T) {
	t.Parallel()
	s, db := operated(t)
	must(t, invoices.At(db, "1").Cast(t.Context(), coupon{"x"}))
	must(t, invoices.At(db, "1").Cast(t.Context(), add{"tea"}))
	eventually(t, "it halts", func() bool { return statusOf(t, db, "invoice/1").Halted })
	stamp := nextOf(t, db, "invoice/1").Stamp.String()
	s.get("server/invoice/1").shows("Resume")
	s.get("server/invoice/1/message/"+stamp).shows("has halted its server", "none by itself")
	page := s.get("server/invoice/1/message/"+stamp+"/do/delete").shows("is taken off the queue", `"Code": "x"`)
	if statusOf(t, db, "invoice/1").Queued != 2 {
		t.Fatal("a page that only shows has done it")
	}
	_ = page
	s.does("server/invoice/1/message/"+stamp+"/do/delete", form("step", "do"), "The message is deleted.")
	audited(t, db, "Withdraw")
	eventually(t, "the next one is handled", func() bool {
		o, err := invoices.At(db, "1").State(t.Context())
		return err == nil && o.Customer == "Ada"
	})
	s.refuses("server/invoice/1/message/"+stamp+"/do/delete", form("step", "do"), http.StatusNotFound, "does not wait any more")
}

// The page of a poisoned message leads to its cure: it is changed in its place, after what will be is shown beside what is.
func TestAPoisonedMessageIsEditedInItsPlace(t *testing.T) {
	t.Parallel()
	s, db := operated(t)
	must(t, orders.At(db, "1").Cast(t.Context(), coupon{"SPRING"}))
	eventually(t, "it fails", func() bool { return len(statusOf(t, db, "order/1").Failing) == 1 })
	at := "server/order/1/message/" + nextOf(t, db, "order/1").Stamp.String() + "/do/edit"
	page := s.get(at).shows("keeps its place on the queue", `"Code": "SPRING"`)
	seen := seenIn(t, page)
	s.refuses(at, form("step", "preview", "seen", seen, "name", "add", "body", "{"), http.StatusUnprocessableEntity, "The body: not JSON")
	s.refuses(at, form("step", "do", "seen", seen, "name", "add", "body", "{"), http.StatusUnprocessableEntity, "The body: not JSON")
	s.refuses(at, form("step", "preview", "seen", seen, "name", " ", "body", "{}"), http.StatusUnprocessableEntity, "needs a name")
	s.refuses(at, form("step", "do", "seen", "another", "name", "add", "body", "{}"), http.StatusConflict, "Somebody has changed it since you looked", "Nothing was done")
	s.refuses(at, form("step", "do", "name", "add", "body", "{}"), http.StatusConflict)
	f := form("step", "preview", "seen", seen, "name", "add", "body", `{"SKU": "tea"}`)
	preview := s.ask(http.MethodPost, at, f, nil)
	preview.shows("As it is coupon", `"Code": "SPRING"`, "As it will be add", `"SKU": "tea"`, "Change it in its place")
	if statusOf(t, db, "order/1").Queued != 1 {
		t.Fatal("a preview has done it")
	}
	if again := seenIn(t, preview); again != seen {
		t.Errorf("the preview hands on %s, and not %s", again, seen)
	}
	back := form("step", "edit", "seen", seen, "name", "add", "body", `{"SKU": "tea"}`)
	if a := s.ask(http.MethodPost, at, back, nil); a.status != http.StatusOK || !strings.Contains(html.UnescapeString(a.body), `{"SKU": "tea"}`) || !strings.Contains(a.body, "<textarea") {
		t.Errorf("back in the form it is %d, %s", a.status, a.text())
	}
	f.Set("step", "do")
	s.does(at, f, "The message was changed in its place")
	audited(t, db, "Mend")
	eventually(t, "it is handled", func() bool {
		o, err := orders.At(db, "1").State(t.Context())
		return err == nil && len(o.Items) == 1 && o.Items[0].SKU == "tea"
	})
}

func TestDeadLettersAreRetriedEditedAndDiscarded(t *testing.T) {
	t.Parallel()
	s, db := operated(t)
	for i := range 3 {
		must(t, orders.At(db, "1").Cast(t.Context(), charge{int64(i)}))
	}
	eventually(t, "all are set aside", func() bool { return statusOf(t, db, "order/1").DeadLetters == 3 })
	at := func() string { return "server/order/1/message/" + letterOf(t, db, "order/1").Stamp.String() }
	first := at()
	s.does(first+"/do/retry", form(), "The message was put on the queue again.")
	audited(t, db, "Retry")
	s.refuses(first+"/do/retry", form(), http.StatusNotFound, "retried or discarded")
	eventually(t, "it is set aside again", func() bool { return statusOf(t, db, "order/1").DeadLetters == 3 })
	s.get(at()+"/do/discard").shows("its message is lost", `"Amount"`)
	s.does(at()+"/do/discard", form("step", "do"), "The dead letter is discarded.")
	audited(t, db, "Discard")
	edit := at() + "/do/edit"
	page := s.get(edit).shows("goes to the end of the queue, as it is written here")
	s.does(edit, form("step", "do", "seen", seenIn(t, page), "name", "add", "body", `{"SKU": "cup"}`), "The message was put on the queue again.")
	audited(t, db, "Retry")
	eventually(t, "it is handled", func() bool {
		o, err := orders.At(db, "1").State(t.Context())
		return err == nil && len(o.Items) == 1 && o.Items[0].SKU == "cup" && statusOf(t, db, "order/1").DeadLetters == 1
	})
}

// What JSON cannot say is edited in CBOR's notation.
func TestAMessageIsEditedInNotation(t *testing.T) {
	t.Parallel()
	s, db := operated(t)
	h := orders.At(db, "1")
	must(t, h.Pause(t.Context()))
	must(t, h.Ref().At(db).Cast(t.Context(), dserver.Message{Name: "add", Body: []byte("\xa1\x01\x41\xff")})) // {1: h'ff'}
	at := "server/order/1/message/" + nextOf(t, db, "order/1").Stamp.String()
	s.get(at).shows("1: h'ff'")
	page := s.get(at+"/do/edit?as=cbor").shows("1: h'ff'", "edit it as JSON")
	f := form("step", "preview", "as", "cbor", "seen", seenIn(t, page), "name", "add", "body", "{1: h'")
	s.refuses(at+"/do/edit", f, http.StatusUnprocessableEntity, "line 1, column")
	f.Set("body", "{1: h'fe'}")
	s.ask(http.MethodPost, at+"/do/edit", f, nil).shows("As it is add { 1: h'ff' }", "As it will be add { 1: h'fe' }")
	f.Set("step", "do")
	s.does(at+"/do/edit", f, "The message was changed in its place")
	if body := nextOf(t, db, "order/1").Message.Body; string(body) != "\xa1\x01\x41\xfe" {
		t.Errorf("the body is %x", body)
	}
}

// Those that are chosen, and no others.
func TestSeveralMessagesAreChosen(t *testing.T) {
	t.Parallel()
	s, db := operated(t)
	h := orders.At(db, "1")
	for range 3 {
		must(t, h.Cast(t.Context(), charge{1}))
	}
	must(t, h.Ref().At(db).Cast(t.Context(), dserver.Message{Name: "add", Body: []byte("\x01")}))
	eventually(t, "they are set aside", func() bool {
		return statusOf(t, db, "order/1").DeadLetters == 3 && statusOf(t, db, "order/1").Queued == 1
	})
	dead := func() int64 { return statusOf(t, db, "order/1").DeadLetters }
	s.get("server/order/1/do/retry-all").shows("the oldest first", "Preview")
	a := s.ask(http.MethodPost, "server/order/1/do/discard-all", form("step", "preview", "code", "other"), nil)
	a.shows("Dead letters that are chosen: 0")
	s.ask(http.MethodPost, "server/order/1/do/discard-all", form("step", "preview", "code", "too-much"), nil).shows("Dead letters that are chosen: 3", "cannot be taken back")
	s.refuses("server/order/1/do/discard-all", form("step", "do"), http.StatusUnprocessableEntity, "Tick the box first")
	s.does("server/order/1/do/discard-all", form("step", "do", "sure", "yes", "message", "other"), "There was nothing to do any more.")
	if dead() != 3 {
		t.Fatalf("%d are left", dead())
	}
	s.does("server/order/1/do/retry-all", form("step", "do", "code", "too-much"), "It is done.")
	audited(t, db, "Retry")
	must(t, h.Pause(t.Context()))
	s.ask(http.MethodPost, "server/order/1/do/delete-all", form("step", "preview"), nil).shows("Messages that are chosen: 4")
	s.does("server/order/1/do/delete-all", form("step", "do", "sure", "yes", "message", "charge"), "It is done.")
	audited(t, db, "Withdraw")
	if status := statusOf(t, db, "order/1"); status.Queued != 1 || nextOf(t, db, "order/1").Message.Name != "add" {
		t.Errorf("after those named charge were deleted it is %+v", status)
	}
	s.does("server/order/1/do/delete-all", form("step", "do", "sure", "yes"), "It is done.")
	if status := statusOf(t, db, "order/1"); status.Queued != 0 {
		t.Errorf("after all were deleted it is %+v", status)
	}
}

func TestAStateIsChangedAsItWasSeen(t *testing.T) {
	t.Parallel()
	s, db := operated(t)
	must(t, orders.At(db, "1").Call(t.Context(), add{"tea"}, nil))
	const at = "server/order/1/do/set"
	page := s.ask(http.MethodPost, at, form("path", "Items/0/Number"), nil).shows("No handler runs", "1")
	seen := seenIn(t, page)
	s.refuses(at, form("step", "preview", "seen", seen, "path", "Items/7", "value", "1"), http.StatusUnprocessableEntity, "there is nothing at Items/7")
	s.refuses(at, form("step", "do", "seen", seen, "path", "Items/0/Number", "value", "x"), http.StatusUnprocessableEntity, "not JSON")
	s.refuses(at, form("step", "do", "path", "Items/0/Number", "value", "2"), http.StatusBadRequest, "which state was seen")
	s.refuses(at, form("step", "preview", "seen", seen, "path", "", "value", "2"), http.StatusUnprocessableEntity, "Which place?")
	f := form("step", "preview", "seen", seen, "path", "Items/0/Number", "value", "7")
	s.ask(http.MethodPost, at, f, nil).shows("As it is 1 As it will be 7", "Change it")
	f.Set("step", "do")
	s.does(at, f, "The state is changed.", "Number 7")
	audited(t, db, "SetState")
	s.refuses(at, f, http.StatusConflict, "Somebody has changed it since you looked")
	for path, value := range map[string]string{"Photo": `"BAUG"`, "Opened": `"2027-01-01T00:00:00Z"`, "Notes/gift": `"no"`, "Notes/wrap": `"red"`} {
		f := form("path", path, "value", value, "step", "do", "seen", seenIn(t, s.get(at)))
		if path == "Notes/wrap" {
			s.refuses(at, f, http.StatusUnprocessableEntity, "choose that there is nothing yet")
			f.Set("how", "create")
		}
		s.does(at, f, "The state is changed.")
	}
	s.does(at, form("path", "Notes/gift", "how", "remove", "step", "do", "seen", seenIn(t, s.get(at))), "The state is changed.")
	o, err := orders.At(db, "1").State(t.Context())
	must(t, err)
	if o.Items[0].Number != 7 || string(o.Photo) != "\x04\x05\x06" || o.Opened.Year() != 2027 || fmt.Sprint(o.Notes) != "map[wrap:red]" {
		t.Errorf("the state is %+v", o)
	}
	if a := s.ask(http.MethodGet, "server/order/2/do/set", nil, nil); a.status != http.StatusNotFound {
		t.Errorf("without a state it is %d", a.status)
	}
}

func TestAMessageIsSentFromAForm(t *testing.T) {
	t.Parallel()
	s, db := operated(t)
	const at = "server/order/1/do/cast"
	s.get(at).shows("The body is JSON")
	s.refuses(at, form("step", "do", "name", "", "body", "{}"), http.StatusBadRequest, "Which message?")
	s.refuses(at, form("step", "do", "name", "add", "body", "{"), http.StatusBadRequest, "Nothing was sent")
	s.refuses(at, form("step", "do", "name", "add", "body", "{}", "after", "soon"), http.StatusBadRequest, "Nothing was sent")
	for range 2 {
		s.does(at, form("step", "do", "name", "add", "body", `{"SKU": "tea"}`, "once", "k1"), "The message was sent.")
	}
	eventually(t, "it is handled", func() bool {
		o, err := orders.At(db, "1").State(t.Context())
		return err == nil && len(o.Items) == 1
	})
	s.does(at, form("step", "do", "name", "add", "body", `{"SKU": "cup"}`, "after", "1h"), "The message was sent.", "Delayed add due")
	link := ""
	for _, l := range s.get("server/order/1").links() {
		if strings.Contains(l, "delayed=") {
			link = l
		}
	}
	s.get(link).shows("deleted before its time")
	s.does(link, form("step", "do"), "The delayed message is deleted.")
	audited(t, db, "WithdrawDelayed")
	if n := statusOf(t, db, "order/1").Delayed; n != 0 {
		t.Errorf("%d are delayed", n)
	}
}

func TestALockIsEndedAServerIsPinnedResetAndKilled(t *testing.T) {
	t.Parallel()
	s, db := operated(t)
	h := orders.At(db, "1")
	must(t, h.Call(t.Context(), add{"tea"}, nil))
	s.refuses("server/order/1/do/unlock", form("step", "do"), http.StatusNotFound, "It is not locked any more")
	must(t, h.Cast(t.Context(), dock(t)))
	eventually(t, "it is locked", func() bool { return statusOf(t, db, "order/1").Locked })
	s.get("server/order/1/do/unlock").shows("The locked work of ship ends", "Somebody has to look")
	s.does("server/order/1/do/unlock", form("step", "do"), "The locked work is ended.")
	audited(t, db, "Unlock")
	if status := statusOf(t, db, "order/1"); status.Locked || status.DeadLetters != 1 {
		t.Errorf("it is %+v", status)
	}
	s.does("server/order/1/do/pin", form("step", "do", "label", "eu"), "It is pinned. No consumer", "eu")
	audited(t, db, "Pin")
	s.get("server/order/1/do/pin").shows("Label")
	s.does("server/order/1/do/pin", form("step", "do", "label", ""), "It runs where the label is listed.")
	s.get("server/order/1/do/reset").shows("(0) and its dead letters (1) stay")
	s.refuses("server/order/1/do/reset", form("step", "do"), http.StatusUnprocessableEntity, "Tick the box first")
	s.does("server/order/1/do/reset", form("step", "do", "sure", "yes"), "Its state is forgotten.", "It has no state")
	audited(t, db, "Reset")
	s.get("server/order/1/do/kill").shows("All of it is removed", "its dead letters (1)")
	s.refuses("server/order/1/do/kill", form("step", "do", "sure", "no"), http.StatusUnprocessableEntity, "Tick the box first")
	s.does("server/order/1/do/kill", form("step", "do", "sure", "yes"), "It is removed.", "nothing is stored")
	audited(t, db, "Kill")
}

// Every act is refused to who may not, and to pages of other origins; and a GET does nothing.
func TestNobodyElseActs(t *testing.T) {
	t.Parallel()
	s, db := operated(t)
	troubles(t, db)
	letter, next := letterOf(t, db, "order/4711").Stamp.String(), nextOf(t, db, "order/4712").Stamp.String()
	var paths []string
	for _, verb := range []string{"pause", "resume", "unlock", "pin", "reset", "kill", "cast", "set", "withdraw", "delete-all", "retry-all", "discard-all"} {
		paths = append(paths, "server/order/4711/do/"+verb)
	}
	for _, verb := range []string{"retry", "discard", "edit"} {
		paths = append(paths, "server/order/4711/message/"+letter+"/do/"+verb)
	}
	for _, verb := range []string{"delete", "edit"} {
		paths = append(paths, "server/order/4712/message/"+next+"/do/"+verb)
	}
	all := form("step", "do", "sure", "yes", "name", "add", "body", "{}", "path", "Total", "value", "1")
	acts := func() (n int) {
		for _, err := range dserver.Audit(t.Context(), db) {
			must(t, err)
			n++
		}
		return n
	}
	before := acts()
	looks := serve(t, db, console.Options{Authorize: as(console.User{Name: "eve"})})
	readOnly := serve(t, db, console.Options{Authorize: as(operator), ReadOnly: true})
	anybody := serve(t, db, console.Options{})
	nobody := serve(t, db, console.Options{Authorize: func(*http.Request) (console.User, error) { return operator, errNobody }})
	for _, path := range paths {
		for name, other := range map[string]*site{"may look": looks, "read only": readOnly, "no callback": anybody, "may not look": nobody} {
			if a := other.ask(http.MethodPost, path, all, nil); a.status != http.StatusForbidden {
				t.Errorf("%s: %s is %d", name, path, a.status)
			}
		}
		for _, header := range []http.Header{
			{"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}}, {"Origin": {"https://evil.example.org"}}, {"Origin": {"null"}},
		} {
			if a := s.ask(http.MethodPost, path, all, header); a.status != http.StatusForbidden {
				t.Errorf("with %v %s is %d", header, path, a.status)
			}
		}
		if a := s.ask(http.MethodGet, path+"?"+all.Encode(), nil, nil); a.status == http.StatusSeeOther {
			t.Errorf("a GET of %s is done", path)
		}
		if a := s.ask(http.MethodPut, path, all, nil); a.status != http.StatusMethodNotAllowed {
			t.Errorf("a PUT of %s is %d", path, a.status)
		}
	}
	if n := acts(); n != before {
		t.Errorf("there were %d acts, and now %d", before, n)
	}
	s.refuses("server/order/4711/do/explode", all, http.StatusNotFound, "There is no such act.")
	s.refuses("server/order/4711/do/delete", all, http.StatusNotFound)
}

func TestALargeFormIsRefused(t *testing.T) {
	t.Parallel()
	s, _ := operated(t)
	a := s.ask(http.MethodPost, "server/order/1/do/cast", form("name", "add", "body", `"`+strings.Repeat("x", 17<<20)+`"`, "step", "do"), nil)
	if a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("it is %d: %.200s", a.status, a.text())
	}
}

// What is large is shown in part, and the page stays small.
func TestPagesStaySmall(t *testing.T) {
	t.Parallel()
	db := program(t)
	h := orders.At(db, "1")
	long := strings.Repeat("long <&> ", 20_000)
	for i := range 60 {
		must(t, h.Cast(t.Context(), add{fmt.Sprint(i, long[:2000])}))
		must(t, h.Cast(t.Context(), charge{int64(i)}))
		must(t, h.Cast(t.Context(), add{"later"}, dserver.After(time.Hour)))
	}
	eventually(t, "all are handled", func() bool { return statusOf(t, db, "order/1").DeadLetters == 60 })
	must(t, h.Call(t.Context(), note{long}, nil))
	must(t, h.Pause(t.Context()))
	for range 60 {
		must(t, h.Cast(t.Context(), note{long}))
	}
	s := serve(t, db, console.Options{Authorize: as(operator)})
	paths := []string{"", "trouble", "server/order/1", "server/order/1/message/" + nextOf(t, db, "order/1").Stamp.String(), "audit", "type/order"}
	for _, path := range paths {
		if a := s.get(path); len(a.body) > 100<<10 {
			t.Errorf("%s has %d bytes", path, len(a.body))
		}
	}
	s.get("server/order/1").shows("The next 25 of 60.", "The oldest 25 of 60.")
	s.get(paths[3]).shows("It is cut. The CBOR is whole.")
	if a := s.get(paths[3] + "/body"); len(a.body) < len(long) || a.header.Get("Content-Disposition") != "attachment" {
		t.Errorf("the body has %d bytes, and %v", len(a.body), a.header)
	}
	if a := s.get("server/order/1/state"); !strings.Contains(a.body, long) {
		t.Errorf("the state has %d bytes", len(a.body))
	}
}
