package console_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/console"
)

// These tests use the console as people do, in a browser: one for all of them, with a tab for each. Where there is no Chromium,
// they are left out and say so; with CONSOLE=1 that is a failure.

// browsers are the names of programs that will do, Debian's first.
var browsers = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}

var chromium struct {
	once  sync.Once
	ctx   context.Context
	close func()
	err   error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if chromium.close != nil {
		chromium.close()
	}
	os.Exit(code)
}

// startChromium starts the browser.
func startChromium() {
	path := ""
	for _, name := range browsers {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		return
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("force-device-scale-factor", "1"), chromedp.Flag("font-render-hinting", "none"))
	if os.Getuid() == 0 { // its sandbox refuses to run for root
		options = append(options, chromedp.NoSandbox)
	}
	allocated, free := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, end := chromedp.NewContext(allocated)
	chromium.ctx, chromium.err = ctx, chromedp.Do(ctx)
	chromium.close = func() {
		end()
		free()
	}
}

// tab is a tab of the browser, in which nothing may ask, warn or fail.
type tab struct {
	t   testing.TB
	ctx context.Context

	mu      sync.Mutex
	expects []string // what the browser may say
	heard   string   // what it has said of that
}

// expect lets the browser say something.
func (b *tab) expect(text ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expects, b.heard = text, ""
}

func (b *tab) isExpected(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	is := slices.ContainsFunc(b.expects, func(expected string) bool { return strings.Contains(text, expected) })
	if is {
		b.heard += text + "\n"
	}
	return is
}

// openTab opens one. The site that it shows is made before it, so that it is closed after it.
func openTab(t testing.TB) *tab {
	t.Helper()
	chromium.once.Do(startChromium)
	switch {
	case chromium.err != nil:
		t.Fatalf("Chromium does not start: %v", chromium.err)
	case chromium.ctx == nil && os.Getenv("CONSOLE") == "1":
		t.Fatalf("CONSOLE=1 was asked for, and none of %q is installed", browsers)
	case chromium.ctx == nil:
		t.Skipf("it needs a browser, and none of %q is installed", browsers)
	}
	ctx, end := chromedp.NewContext(chromium.ctx)
	var listening sync.WaitGroup
	t.Cleanup(func() {
		end()
		listening.Wait()
	})
	b := &tab{t: t, ctx: ctx}
	must(t, chromedp.Listen(ctx, func(event any) {
		if dialog, isDialog := event.(*page.EventJavascriptDialogOpening); isDialog {
			t.Errorf("a dialog opens: %s", dialog.Message)
		}
	}))
	messages := chromedp.Console(ctx)
	listening.Go(func() { // until the tab is closed
		for m, err := range messages {
			if err != nil {
				return
			}
			if !b.isExpected(m.Text) && (m.Type == "error" || m.Type == "warning" || m.Type == chromedp.ConsoleException) {
				t.Errorf("the browser says: %s", m.Text)
			}
		}
	})
	b.size(1280, 800)
	return b
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, longest)
	defer cancel()
	must(b.t, chromedp.Do(ctx, steps...))
}

func (b *tab) open(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
}

func (b *tab) size(width, height int64) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height))
}

// scheme is light or dark.
func (b *tab) scheme(name string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
	must(b.t, err)
}

// eval is the value of an expression in the page. A page that is being left has none.
func eval[T any](b *tab, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, longest)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// until waits until an expression is true.
func (b *tab) until(expression string) {
	b.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(longest); ; <-tick.C {
		is, err := eval[bool](b, expression)
		if err == nil && is {
			return
		}
		if time.Now().After(end) {
			text, _ := eval[string](b, "location.href + ' ' + document.body.innerText")
			b.t.Fatalf("it did not come true: %s (%v) on %s", expression, err, text)
		}
	}
}

// reads waits until a person can read something on the page.
func (b *tab) reads(text string) {
	b.t.Helper()
	b.until("document.body.innerText.replace(/\\s+/g, ' ').includes(" + strconv.Quote(text) + ")")
}

// found is an expression for what can be clicked, by the beginning of its text or of its label.
func found(text string) string {
	return `[...document.querySelectorAll("main a, main button, main summary, main label, main textarea, main input, nav a")].find((e) =>
		e.checkVisibility() && ((e.getAttribute("aria-label") ?? e.textContent).trim() || e.name || "").startsWith(` + strconv.Quote(text) + `))`
}

// click moves the mouse to the middle of something, and presses it there.
func (b *tab) click(text string) {
	b.t.Helper()
	b.until("!!" + found(text))
	at, err := eval[[]float64](b, `(() => { const e = `+found(text)+`; e.scrollIntoView({ block: "center", behavior: "instant" })
		const r = e.getClientRects()[0]; return [r.x + r.width / 2, r.y + r.height / 2] })()`)
	must(b.t, err)
	b.do(chromedp.MouseClickXY(at[0], at[1]))
}

func (b *tab) press(keys string, modifiers ...chromedp.Modifier) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys, chromedp.KeyModifiers(modifiers...)))
}

// slash presses the key as a keyboard does: what the page takes is not written.
func (b *tab) slash() {
	b.t.Helper()
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeKeyDown, input.DispatchKeyEventTypeKeyUp} {
		_, err := chromedp.Call(b.ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Key: "/", Code: "Slash", Text: "/", WindowsVirtualKeyCode: 191})
		must(b.t, err)
	}
}

// tabTo goes on with the tab key until something has the focus, and expects that this can be seen.
func (b *tab) tabTo(text string) {
	b.t.Helper()
	b.until("!!" + found(text))
	for range 80 {
		b.press(kb.Tab)
		is, err := eval[bool](b, `document.activeElement === `+found(text))
		must(b.t, err)
		if !is {
			continue
		}
		if outline, err := eval[string](b, `getComputedStyle(document.activeElement).outlineStyle`); err != nil || outline == "none" {
			b.t.Errorf("%q has the focus, and nobody sees it: %s, %v", text, outline, err)
		}
		return
	}
	b.t.Fatalf("the tab key does not come to %q", text)
}

// poisoned is a site with one message that breaks its handler.
func poisoned(t testing.TB) (*site, backend.Database) {
	t.Helper()
	s, db := operated(t)
	must(t, orders.At(db, "4712").Cast(t.Context(), coupon{"SPRING"}))
	must(t, orders.At(db, "4712").Cast(t.Context(), add{"cup"}))
	eventually(t, "it fails", func() bool { return len(statusOf(t, db, "order/4712").Failing) == 1 })
	return s, db
}

func itemsOf(t testing.TB, db backend.Database, id string) (skus []string) {
	t.Helper()
	o, err := orders.At(db, id).State(t.Context())
	if err != nil {
		return nil
	}
	for _, i := range o.Items {
		skus = append(skus, i.SKU)
	}
	return skus
}

// The drill of a poisoned message, from the overview to its end, by clicks alone.
func TestAPoisonedMessageIsCuredByMouse(t *testing.T) {
	t.Parallel()
	s, db := poisoned(t)
	b := openTab(t)
	b.open(s.root)
	b.click("order/4712")
	b.reads("coupon fails, and is tried again")
	b.click("Look at the message")
	b.reads("panic: no such coupon: SPRING")
	b.click("Stack")
	b.reads("goroutine")
	b.click("Delete")
	b.reads("is taken off the queue")
	b.click("Delete it")
	b.reads("The message is deleted.")
	b.reads("\"cup\"")
	if items := itemsOf(t, db, "4712"); len(items) != 1 || items[0] != "cup" {
		t.Errorf("after the drill there are %q", items)
	}
	b.click("Trouble")
	b.reads("Nothing needs you.")
	audited(t, db, "Withdraw")
}

// The same by keys alone: the message is found, and changed in its place.
func TestAPoisonedMessageIsCuredByKeyboard(t *testing.T) {
	t.Parallel()
	s, db := poisoned(t)
	b := openTab(t)
	b.open(s.root)
	b.slash()
	b.press("order/47")
	b.press(kb.Enter)
	b.reads("Servers whose id begins with")
	b.tabTo("4712")
	b.press(kb.Enter)
	b.reads("coupon fails, and is tried again")
	b.tabTo("Look at the message")
	b.press(kb.Enter)
	b.reads("panic: no such coupon: SPRING")
	b.tabTo("Edit in its place")
	b.press(kb.Enter)
	b.reads("keeps its place on the queue")
	b.tabTo("name")
	b.press("a", chromedp.ModifierCtrl)
	b.press("add")
	b.press(kb.Tab)
	b.press("a", chromedp.ModifierCtrl)
	b.press(`{"SKU": "tea"}`)
	b.tabTo("Preview")
	b.press(kb.Enter)
	b.reads("As it will be")
	b.tabTo("Change it in its place")
	b.press(kb.Enter)
	b.reads("The message was changed in its place")
	b.reads("\"tea\"")
	b.reads("\"cup\"")
	if items := itemsOf(t, db, "4712"); len(items) != 2 || items[0] != "tea" || items[1] != "cup" {
		t.Errorf("after the drill there are %q", items)
	}
	audited(t, db, "Mend")
}

// What is committed is seen without a request, and what has changed is lit up. Neither the focus nor what is open is lost, and
// nothing jumps.
func TestAPageIsLive(t *testing.T) {
	t.Parallel()
	s, db := operated(t)
	b := openTab(t)
	h := orders.At(db, "1")
	must(t, h.Call(t.Context(), add{"tea"}, nil))
	b.open(s.root + "server/order/1")
	b.until(`document.getElementById("pulse").textContent === "Live"`)
	_, err := eval[bool](b, `(() => {
		window.shift = 0
		new PerformanceObserver((list) => { for (const e of list.getEntries()) window.shift += e.value }).observe({ type: "layout-shift" })
		window.lit = []
		new MutationObserver((all) => { for (const m of all) if (m.target.hasAttribute("data-changed")) window.lit.push(m.target.textContent) })
			.observe(document.body, { subtree: true, attributeFilter: ["data-changed"] })
		window.folded = [...document.querySelectorAll("details")].find((e) => e.textContent.startsWith("Notes"))
		window.folded.open = false
		window.button = [...document.querySelectorAll("button")].find((e) => e.ariaLabel === "Change Total")
		window.button.focus()
		return true })()`)
	must(t, err)
	began := time.Now()
	must(t, h.Cast(t.Context(), charge{1}))
	committed := time.Now()
	b.until(`[...document.querySelectorAll("td")].some((e) => e.textContent.includes("too-much"))`)
	must(t, h.Call(t.Context(), add{"cup"}, nil))
	b.until(`document.body.innerText.includes("500")`)
	t.Logf("it was sent for %v, and seen %v later", committed.Sub(began), time.Since(committed))
	for what, expression := range map[string]string{
		"the total is not lit up": `window.lit.includes("500")`,
		"the customer is lit up":  `!window.lit.some((e) => e.includes("Ada"))`,
		"the focus is lost":       `document.activeElement === window.button && window.button.isConnected`,
		"what was folded is open": `!window.folded.open && window.folded.isConnected`,
		"an age is none":          `[...document.querySelectorAll("main time")].every((e) => / ago$|^in /.test(e.textContent))`,
	} {
		if is, err := eval[bool](b, expression); err != nil || !is {
			lit, _ := eval[[]string](b, "window.lit")
			t.Errorf("%s: %v, %q", what, err, lit)
		}
	}
	must(t, h.Pause(t.Context()))
	must(t, h.Resume(t.Context()))
	overview := openTab(t)
	overview.open(s.root)
	overview.until(`document.getElementById("pulse").textContent === "Live"`)
	_, err = eval[bool](overview, `(() => { window.shift = 0
		new PerformanceObserver((list) => { for (const e of list.getEntries()) window.shift += e.value }).observe({ type: "layout-shift" })
		return true })()`)
	must(t, err)
	dead := `document.querySelector("#tile-dead .value").textContent`
	for i := range 3 {
		must(t, h.Cast(t.Context(), charge{1}))
		overview.until(dead + ` === "` + strconv.Itoa(i+2) + `"`)
	}
	if shift, err := eval[float64](overview, "window.shift"); err != nil || shift > 0.01 {
		t.Errorf("while numbers change, the overview jumps by %v, %v", shift, err)
	}
}

// No name, whatever it is, runs or opens anything.
func TestHostileNamesAreInertInABrowser(t *testing.T) {
	t.Parallel()
	s, db := operated(t)
	b := openTab(t)
	ids := []string{"<script>window.ran=1;alert(1)</script>", `"><img src=x onerror="window.ran=1;alert(1)">`, "javascript:alert(1)", "\u202egnp.exe", "a\nb\x00", "../../etc", `'-alert(1)-'`, "\xff<svg onload=alert(1)>"}
	for _, id := range ids {
		h := orders.At(db, id)
		must(t, h.Call(t.Context(), note{id}, nil))
		must(t, h.Cast(t.Context(), coupon{id}))
	}
	eventually(t, "all are in trouble", func() bool {
		for _, id := range ids {
			if len(statusOf(t, db, "order/"+id).Failing) == 0 {
				return false
			}
		}
		return true
	})
	pages := []string{s.root, s.root + "trouble", s.root + "type/order", s.root + "search?q=" + "%3Cscript%3Ealert(1)%3C/script%3E"}
	for _, id := range ids {
		ref := "server/order/" + console.EncodeName(id)
		pages = append(pages, s.root+ref, s.root+ref+"/message/"+nextOf(t, db, "order/"+id).Stamp.String(), s.root+ref+"/do/kill")
	}
	for _, at := range pages {
		b.open(at)
		if is, err := eval[bool](b, `window.ran === undefined && document.scripts.length === 1 && !document.querySelector("img, iframe, object, embed, base") && !!document.querySelector("h1")`); err != nil || !is {
			t.Errorf("something runs at %s: %v", at, err)
		}
	}
	b.open(s.root + "type/order")
	for range ids {
		b.until(`document.querySelectorAll("tbody tr").length === ` + strconv.Itoa(len(ids)))
	}
}

// A page of another origin can neither act in the name of who is logged in, nor show the console in a frame.
func TestAnotherOriginCannotAct(t *testing.T) {
	t.Parallel()
	s, db := operated(t)
	must(t, orders.At(db, "1").Call(t.Context(), add{"tea"}, nil))
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/favicon.ico" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/frame" {
			fmt.Fprintf(w, `<!doctype html><title>x</title><iframe src="%s"></iframe>`, s.root)
			return
		}
		fmt.Fprintf(w, `<!doctype html><title>x</title><form method="post" action="%sserver/order/1/do/pause"><button>win</button></form><script>document.forms[0].submit()</script>`, s.root)
	}))
	t.Cleanup(evil.Close)
	b := openTab(t)
	at := strings.Replace(evil.URL, "127.0.0.1", "localhost", 1)
	b.expect("403 (Forbidden)", "404 (Not Found)") // of the act, and of the icon of a page that is none
	b.open(at)
	b.until(`location.pathname.endsWith("/do/pause") && document.readyState === "complete"`)
	if statusOf(t, db, "order/1").Paused {
		t.Error("a page of another origin has paused a server")
	}
	b.expect("frame-ancestors", "404 (Not Found)")
	b.open(at + "/frame")
	if frames, err := eval[bool](b, `frames.length === 1`); err != nil || !frames {
		t.Fatalf("there is no frame: %v", err)
	}
	eventually(t, "the frame is refused", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return strings.Contains(b.heard, "frame-ancestors")
	})
}
