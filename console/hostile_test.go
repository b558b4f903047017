package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/console"
	"github.com/dserver-go/dserver/dserver"
)

// hostile is ids that muxes, proxies, pages and people could misread.
var hostile = []string{
	"../../etc/passwd", "..", ".", "a/b", "a//b", "/", "~", "~YQ", "a%2Fb", "%00", "?", "a?b=c#d", "#", "a b", " ", "+",
	"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "'", "`", "{{.}}", "javascript:alert(1)", "&lt;",
	"\x1b[2J", "\u202egnp.exe", "\u2066x\u2069", "a\nb", "a\r\nSet-Cookie: x=y", "a\tb", "\x7f", "\x00", "x\x00y", "\xff\xfe", "\ufeff", "zero\u200bwidth",
	`"quoted"`, "-flag", "back\\slash", "ä ö 漢", "שלום", "\U000e0041tag", "live", "do", "message", strings.Repeat("x", 1<<10), strings.Repeat("\xff", 1<<10),
}

// unseen is what must be on no page: it would move, hide or turn what stands beside it.
const unseen = "\x1b\u202e\u2066\u2069\x7f\x00\ufeff\u200b\r\U000e0041"

var aMessage = regexp.MustCompile(`/message/[0-9a-f]{24}$`)

// Each is found in its list, has a page of its own by a link that a proxy may clean, and nothing of it is raw.
func TestHostileNamesAreInert(t *testing.T) {
	t.Parallel()
	db := program(t)
	s := serve(t, db, console.Options{Authorize: as(operator)})
	for i, id := range hostile {
		h := orders.At(db, id)
		must(t, h.Call(t.Context(), add{id}, nil))
		must(t, h.Pause(dserver.WithActor(t.Context(), id)))
		must(t, h.Cast(t.Context(), coupon{id}))
		body, err := cbor.Marshal(map[string]string{id: id})
		must(t, err)
		must(t, h.Ref().At(db).Cast(t.Context(), dserver.Message{Name: id[:min(len(id), 100)], Body: body}, dserver.Header("k", "v"+strings.ToValidUTF8(id, ""))))
		at := ""
		list := s.get("type/order?prefix=" + url.QueryEscape(quoteFor(id)))
		for _, link := range list.links() {
			if strings.Contains(link, "/server/order/") && at == "" {
				at = link
			}
		}
		if at == "" {
			t.Fatalf("%q has no link", id)
		}
		parsed, err := url.Parse(at)
		must(t, err)
		if parsed.RawPath != "" || strings.Contains(parsed.Path, "//") || strings.Contains(parsed.Path, "/..") || parsed.RawQuery != "" {
			t.Errorf("the address of %q is changed on its way: %s", id, at)
		}
		page := s.get(at)
		if !strings.Contains(page.body, "coupon") {
			t.Errorf("%d %q: the page at %s is that of another server: %s", i, id, at, page.text())
		}
		pages := []answer{list, page, s.get("trouble"), s.get("audit"), s.get("search?q=" + url.QueryEscape(quoteFor(id)))}
		for _, link := range page.links() {
			if aMessage.MatchString(link) {
				pages = append(pages, s.get(link))
			}
		}
		if len(pages) < 7 {
			t.Errorf("%q: its messages have no pages", id)
		}
		for _, p := range pages {
			p.hides("<script>alert", "<img", "onerror=alert(1)>")
			if strings.ContainsAny(p.body, unseen) {
				t.Errorf("%s has something of %q raw", p.url, id)
			}
		}
		must(t, h.Kill(t.Context()))
	}
}

// quoteFor is an id as a person writes it into a field.
func quoteFor(id string) string { return console.Quoted(id) }

func TestAServerHasOneAddress(t *testing.T) {
	t.Parallel()
	s := serve(t, program(t), console.Options{})
	for _, path := range []string{"server/order/~YQ", "server/order/~", "server/order/a%20b", "server/order/~%2B", "server/order/~YQ==", "server/~YS9i/x", "server/order/~YR", "type/~YS9i", "type/~"} {
		if a := s.ask(http.MethodGet, path, nil, nil); a.status != http.StatusNotFound {
			t.Errorf("%s is %d: %s", path, a.status, a.text())
		}
	}
}

func TestAnyNameComesBackFromItsAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := string(rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "name"))
		path := console.EncodeName(name)
		if back, ok := console.DecodeName(path); !ok || back != name {
			t.Fatalf("%q is %s, and comes back as %q, %v", name, path, back, ok)
		}
		if url.PathEscape(path) != path {
			t.Fatalf("%s is escaped in a path", path)
		}
	})
}
