package console_test

import (
	"bytes"
	_ "embed"
	"fmt"
	"image"
	"image/png"
	"math"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/console"
)

//go:embed testdata/axe/axe.min.js
var axe string

// shop is a console that has seen an hour, with one of each trouble.
func shop(t testing.TB) (*site, backend.Database) {
	t.Helper()
	db := program(t)
	troubles(t, db)
	h := console.HandlerWithHistory(db, console.Options{Title: "shop, production", Authorize: as(operator), TraceURL: "https://traces.example.org/{trace}"}, []string{"order", "invoice"}, hour)
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return &site{t, db, server, server.URL + "/"}, db
}

// hour is what a busy hour was like.
func hour(name string, step int) float64 {
	x := float64(step)
	wave := math.Abs(math.Sin(x/9)*math.Cos(x/31)) + 0.15*math.Abs(math.Sin(x*1.7))
	switch name {
	case "queued", "type order":
		return math.Round(180 * wave)
	case "handled":
		return math.Round(420 + 300*wave)
	case "oldest":
		return math.Round(40 * wave)
	case "trouble":
		return math.Round(x / 40)
	case "dead":
		return math.Floor(x / 100)
	case "consumers":
		return 2 - math.Floor(math.Mod(x, 60)/58)
	}
	return math.Round(8 * wave)
}

// shopPages are all kinds of pages, by a word for each.
func shopPages(t testing.TB, s *site, db backend.Database) map[string]string {
	t.Helper()
	letter, fails := letterOf(t, db, "order/4711").Stamp.String(), nextOf(t, db, "order/4712").Stamp.String()
	return map[string]string{
		"overview": "", "trouble": "trouble", "consumers": "consumers", "audit": "audit", "search": "search?q=47", "type": "type/order", "active": "type/order?only=active",
		"server": "server/order/4711", "failing": "server/order/4712", "halted": "server/invoice/2026-1", "paused": "server/order/4713", "locked": "server/order/4714",
		"delayed": "server/order/4715", "none": "server/order/none", "nowhere": "nowhere",
		"letter": "server/order/4711/message/" + letter, "message": "server/order/4712/message/" + fails, "gone": "server/order/4712/message/ffffffffffffffffffffffff",
		"edit": "server/order/4712/message/" + fails + "/do/edit", "delete": "server/order/4712/message/" + fails + "/do/delete",
		"kill": "server/order/4711/do/kill", "cast": "server/order/4711/do/cast", "set": "server/order/4711/do/set", "pin": "server/order/4711/do/pin",
		"retry-all": "server/order/4711/do/retry-all",
	}
}

// violation is what axe-core has found.
type violation struct {
	ID, Help string
	Nodes    []struct{ HTML, FailureSummary string }
}

// Each page passes axe-core's rules in light and in dark, fits into the width of a phone, and has its landmarks.
func TestEveryPageIsForEverybody(t *testing.T) {
	t.Parallel()
	s, db := shop(t)
	pages := shopPages(t, s, db)
	pages["log in"] = ""
	login := httptest.NewServer(console.WithToken(console.Handler(db, console.Options{}), "a secret of the test"))
	t.Cleanup(login.Close)
	b := openTab(t)
	b.expect("404 (Not Found)") // of the page that is nowhere
	for name, path := range pages {
		at := s.root + path
		if name == "log in" {
			at = login.URL + "/login"
		}
		b.size(1280, 800)
		b.open(at)
		b.do(chromedp.Evaluate[chromedp.Void](axe))
		for _, scheme := range []string{"light", "dark"} {
			b.scheme(scheme)
			found, err := eval[[]violation](b, `axe.run(document, { resultTypes: ["violations"] }).then((r) => r.violations.map((v) => ({
				ID: v.id, Help: v.help, Nodes: v.nodes.map((n) => ({ HTML: n.html, FailureSummary: n.failureSummary })) })))`)
			must(t, err)
			for _, v := range found {
				t.Errorf("%s, %s: %s, %s: %s %s", name, scheme, v.ID, v.Help, v.Nodes[0].HTML, v.Nodes[0].FailureSummary)
			}
		}
		b.size(375, 800)
		if width, err := eval[int](b, "document.documentElement.scrollWidth"); err != nil || width > 375 {
			t.Errorf("%s is %d wide on a phone, %v", name, width, err)
		}
	}
}

// shots are the pictures of docs/console.md.
var shots = []struct {
	file, page, scheme string
	width              int64
}{
	{"overview.png", "overview", "light", 1280},
	{"overview-dark.png", "overview", "dark", 1280},
	{"overview-phone.png", "overview", "light", 375},
	{"overview-phone-dark.png", "overview", "dark", 375},
	{"server.png", "failing", "light", 1280},
	{"server-dark.png", "server", "dark", 1280},
	{"server-phone.png", "failing", "light", 375},
	{"message.png", "message", "light", 1280},
	{"trouble-phone-dark.png", "trouble", "dark", 375},
}

// settled is a page without what differs from run to run: ages, names of machines and processes.
const settled = `(() => {
	const set = (e, text) => { if (e.textContent !== text) e.textContent = text }
	for (const e of document.querySelectorAll("main time")) { e.removeAttribute("datetime"); e.dateTime = ""; set(e, e.textContent.startsWith("in ") ? "in 3 min" : "3 min ago") }
	for (const row of document.querySelectorAll("[id^=process-]")) { set(row.cells[0].firstChild, "shop-1"); set(row.cells[1], "4242"); set(row.cells.item(row.cells.length - 1).firstChild, "v1.4.2") }
	for (const e of document.querySelectorAll("code")) if (/^[0-9a-f]{24}$/.test(e.textContent)) set(e, "00000000000000ef00000000")
	const handled = document.querySelector("#tile-handled .value") // it is known from the second beat on, after 10 seconds
	if (handled) { set(handled, "431 /s"); for (const row of document.querySelectorAll("tbody tr")) if (row.cells[1].textContent === "–") set(row.cells[1], "216") }
	return document.fonts.ready.then(() => true) })()`

// The pictures of the document are what the pages look like, roughly: fonts differ from machine to machine. GOLDEN=1 takes them
// anew.
func TestGoldenScreenshots(t *testing.T) {
	t.Parallel()
	s, db := shop(t)
	b := openTab(t)
	pages := shopPages(t, s, db)
	for _, shot := range shots {
		b.size(shot.width, 800)
		b.scheme(shot.scheme)
		b.open(s.root + pages[shot.page])
		b.until(`document.getElementById("pulse").textContent === "Live"`)
		b.until(`document.querySelectorAll("main time").length === 0 || !!document.querySelector("main time[title]")`)
		if _, err := eval[bool](b, settled); err != nil {
			t.Fatal(err)
		}
		taken, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
		must(t, err)
		path := filepath.Join("..", "docs", "console", shot.file)
		if os.Getenv("GOLDEN") == "1" {
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, taken, 0o644))
			continue
		}
		want, err := os.ReadFile(path)
		must(t, err)
		far, err := farness(taken, want)
		t.Logf("%s differs by %.3f", shot.file, far)
		if err != nil || far > tooFar {
			t.Errorf("%s is no picture of the page any more (%.3f, %v): GOLDEN=1 takes it anew", shot.file, far, err)
		}
	}
}

// tooFar is what no other font makes.
const tooFar = 0.3

// farness is how much of two pictures differs, from 0 to 1: of the cells of a coarse grid in which one of them has more than its
// ground, those that are lighter or darker in the other. In a cell, letters are a grey.
func farness(a, b []byte) (float64, error) {
	one, err := png.Decode(bytes.NewReader(a))
	if err != nil {
		return 0, err
	}
	other, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		return 0, err
	}
	x, y := one.Bounds().Size(), other.Bounds().Size()
	if x.X != y.X || math.Abs(float64(x.Y-y.Y)) > 0.15*float64(y.Y) {
		return 1, fmt.Errorf("it is %v, and was %v", x, y)
	}
	const cell = 32
	differ, n := 0, 0
	for top := 0; top+cell <= min(x.Y, y.Y); top += cell {
		for left := 0; left+cell <= x.X; left += cell {
			area := image.Rect(left, top, left+cell, top+cell)
			x, y := greyOf(one, area), greyOf(other, area)
			if !isGround(x) || !isGround(y) {
				n++
			}
			if math.Abs(x-y) > 0.02 {
				differ++
			}
		}
	}
	return float64(differ) / float64(max(n, 1)), nil
}

// isGround reports whether a cell is of one of the colours below the letters, in light or in dark.
func isGround(grey float64) bool {
	for _, ground := range []float64{0xf6, 0xff, 0xfa, 0x12, 0x1b, 0x22} {
		if math.Abs(grey-ground/0xff) < 0.008 {
			return true
		}
	}
	return false
}

func greyOf(picture image.Image, area image.Rectangle) float64 {
	sum := 0.0
	for y := area.Min.Y; y < area.Max.Y; y += 2 {
		for x := area.Min.X; x < area.Max.X; x += 2 {
			r, g, b, _ := picture.At(x, y).RGBA()
			sum += float64(r+g+b) / (3 * 0xffff)
		}
	}
	return sum / float64(area.Dx()*area.Dy()/4)
}

// A picture that is another one is told from one whose letters are a little different.
func TestPicturesAreComparedRoughly(t *testing.T) {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("..", "docs", "console", name))
		must(t, err)
		return b
	}
	if far, err := farness(read("overview.png"), read("overview.png")); err != nil || far != 0 {
		t.Errorf("a picture differs from itself by %v, %v", far, err)
	}
	if far, err := farness(read("overview.png"), read("overview-dark.png")); err != nil || far < 0.9 {
		t.Errorf("light and dark differ by %v, %v", far, err)
	}
	if far, err := farness(read("overview.png"), read("message.png")); err == nil && far < tooFar {
		t.Errorf("two pages differ by %v", far)
	}
	if !strings.Contains(axe, "axe v4") {
		t.Error("there is no axe-core")
	}
}
