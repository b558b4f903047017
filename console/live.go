package console

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A browser that shows a page asks for its stream of regions, as server-sent events. All that show the same share a topic:
//
//  1. The first begins it, and the last ends it and waits until it has ended.
//  2. While it lasts, a goroutine loads what the page shows, renders its regions, and numbers those that are others than before.
//  3. Each browser is sent the regions whose numbers it has not seen. One that is slow misses some in between, and never the last.
//
// What a load costs bounds how often it is made, so that a database that is slow is not kept busy by who looks at it.

const (
	pace       = time.Second            // from one load to the next
	fastPace   = 300 * time.Millisecond // of a server, and of a message
	paceFactor = 5                      // a load that takes longer is made less often: it waits so many times as long as it took
	maxStreams = 1000                   // of all browsers together
	heartbeat  = 15 * time.Second       // after which a silent stream says that it lives
	slowest    = 10 * time.Second       // that a browser may take to read an event
	patience   = 10 * time.Second       // that a load may take
	maxStream  = 10 * time.Minute       // after which a browser has to ask again, and may be refused
)

// follower is a source that learns of changes by itself, until ctx ends. It calls changed after each.
type follower interface {
	follow(ctx context.Context, changed func())
	pace() time.Duration // from one load to the next, where nothing has changed
}

// hub has the topics of a console.
type hub struct {
	console *console
	mu      sync.Mutex
	topics  map[string]*topic
	streams int
}

func newHub(c *console) *hub { return &hub{console: c, topics: map[string]*topic{}} }

// topic is a page that somebody shows.
type topic struct {
	viewers int // guarded by the hub's mu
	cancel  context.CancelFunc
	ended   chan struct{}

	mu      sync.Mutex
	number  uint64 // of the last event
	regions map[string]region
	news    chan struct{} // closed with the next event
}

// region is a part of a page, as it was rendered last.
type region struct {
	number uint64
	html   string
}

// join finds or begins the topic of a view (1).
func (h *hub) join(key string, v *view, d page) (*topic, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams == maxStreams {
		return nil, &refusal{http.StatusServiceUnavailable, "Too many browsers look at once."}
	}
	h.streams++
	t := h.topics[key]
	if t == nil {
		ctx, cancel := context.WithCancel(h.console.context)
		t = &topic{cancel: cancel, ended: make(chan struct{}), regions: map[string]region{}, news: make(chan struct{})}
		h.topics[key] = t
		go t.run(ctx, v, d)
	}
	t.viewers++
	return t, nil
}

func (h *hub) leave(key string, t *topic) {
	h.mu.Lock()
	h.streams--
	t.viewers--
	isLast := t.viewers == 0
	if isLast {
		delete(h.topics, key)
	}
	h.mu.Unlock()
	if isLast {
		t.cancel()
		<-t.ended
	}
}

// run is step 2.
func (t *topic) run(ctx context.Context, v *view, d page) {
	var following sync.WaitGroup
	defer close(t.ended)
	defer following.Wait()
	changed, interval := make(chan struct{}, 1), pace
	if f, is := v.source.(follower); is {
		interval = f.pace()
		following.Go(func() {
			f.follow(ctx, func() {
				select {
				case changed <- struct{}{}:
				default:
				}
			})
		})
	}
	for ctx.Err() == nil {
		began := time.Now()
		t.show(t.load(ctx, v, d))
		took := time.Since(began)
		timer := time.NewTimer(max(interval, paceFactor*took))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-changed:
		}
		timer.Stop()
	}
}

// failed is the region that says that the store does not answer.
const failed = "failed"

// load is what the regions are now.
func (t *topic) load(ctx context.Context, v *view, d page) map[string]string {
	loading, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	data, err := v.source.load(loading)
	all := map[string]string{failed: ""}
	if err == nil {
		d.Data = data
		for _, name := range v.regions {
			if all[name], err = fragment(v.name+"."+name, d); err != nil {
				break
			}
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		_, text := statusOf(err)
		return map[string]string{failed: text}
	}
	return all
}

// show numbers what has changed, and wakes who waits for it.
func (t *topic) show(all map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.number
	for name, html := range all {
		if was, known := t.regions[name]; !known && html != "" || was.html != html {
			t.number++
			t.regions[name] = region{t.number, html}
		}
	}
	if t.number == before {
		return
	}
	close(t.news)
	t.news = make(chan struct{})
}

// since is the regions that came after an event, in their order.
func (t *topic) since(number uint64) (names []string, all map[string]region, last uint64, news <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all = map[string]region{}
	for name, r := range t.regions {
		if r.number > number {
			all[name] = r
		}
	}
	names = slices.SortedFunc(maps.Keys(all), func(a, b string) int { return int(all[a].number) - int(all[b].number) })
	return names, all, t.number, t.news
}

// serve is step 3.
func (h *hub) serve(w http.ResponseWriter, r *http.Request, v *view, u User) {
	d := h.console.pageOf(r, v, u)
	d.User.Name = "" // regions are shared with others
	key := fmt.Sprint(r.URL.Path, "?", r.URL.RawQuery, " ", u.Act)
	t, err := h.join(key, v, d)
	if err != nil {
		status, text := statusOf(err)
		http.Error(w, text, status)
		return
	}
	defer h.leave(key, t)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // of proxies that would keep events
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // a server's ReadTimeout is for what is asked
	beat, end := time.NewTicker(heartbeat), time.NewTimer(maxStream)
	defer beat.Stop()
	defer end.Stop()
	for sent := uint64(0); ; {
		names, all, last, news := t.since(sent)
		if sent = last; !h.send(w, out, names, all) {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-h.console.context.Done():
			return
		case <-news:
		case <-end.C:
			return
		case <-beat.C:
			_ = out.SetWriteDeadline(time.Now().Add(slowest))
			if _, err := fmt.Fprint(w, ":\n\n"); err != nil {
				return
			}
		}
	}
}

// send writes regions, one event for each. It reports false when the browser has gone, or is too slow.
func (h *hub) send(w http.ResponseWriter, out *http.ResponseController, names []string, all map[string]region) bool {
	_ = out.SetWriteDeadline(time.Now().Add(slowest)) // where it is not supported, slow browsers are the server's matter
	for _, name := range names {
		event, err := json.Marshal(struct {
			Region string `json:"region"`
			HTML   string `json:"html"`
		}{name, all[name].html})
		if err != nil {
			return false
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", event); err != nil {
			return false
		}
	}
	return out.Flush() == nil
}
