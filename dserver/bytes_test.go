package dserver_test

import (
	"bytes"
	"context"
	"errors"
	"math/big"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/queue"
)

// Comment is a message, and a reply, of any depth: each reply to it is two levels of CBOR deeper.
type Comment struct {
	Text    string
	Replies []Comment
}

// maxReplies is how deep a Comment may be: the last one's list is the 256th level.
const maxReplies = 127

func nested(replies int) Comment {
	c := Comment{Text: "last"}
	for range replies {
		c = Comment{Replies: []Comment{c}}
	}
	return c
}

func (c Comment) depth() (n int) {
	for len(c.Replies) > 0 {
		c, n = c.Replies[0], n+1
	}
	return n
}

// levels is CBOR that is nested so deep.
func levels(n int) []byte { return append(bytes.Repeat([]byte{0x81}, n-1), 0x80) }

type (
	Echo struct { // is answered with what it holds
		dserver.Returns[Comment]
		Comment Comment
	}
	Deepen struct { // is answered with a Comment so deep
		dserver.Returns[Comment]
		Replies int
	}
	Deepest struct{ Comment Comment } // a cast that is refused
	Dated   struct {
		At  time.Time
		By  map[time.Time]int
		All []time.Time
	}
	Linked  struct{ To *url.URL }
	Looping struct{ Next *Looping }
	Woven   struct{ By map[string][]Woven }
	Packed  struct{ Raw cbor.RawMessage }
	Work    struct{ Comment Comment } // is handled under the lock
	Later   struct{ Comment Comment } // comes from a timer
)

var plains = dserver.Define[Journal]("plain",
	dserver.HandleCall(func(_ *dserver.Context, j *Journal, m Echo) (Comment, error) { return m.Comment, nil }),
	dserver.HandleCall(func(_ *dserver.Context, j *Journal, m Deepen) (Comment, error) {
		j.write("deep")
		return nested(m.Replies), nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, j *Journal, _ Lines) ([]string, error) { return j.Lines, nil }),
	dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Write) error {
		j.write(m.Line)
		return nil
	}),
	dserver.HandleCast(func(*dserver.Context, *Journal, Deepest) error { return errDenied }),
	dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Later) error {
		if m.Comment.Text == "" && m.Comment.depth() > 0 && j.Seen["set"] == 0 {
			j.write("set")
			ctx.SetTimer("later", 0, m)
			return nil
		}
		j.write("timer")
		return nil
	}),
	dserver.HandleLocked(
		func(_ *dserver.LockedContext, _ Journal, m Work) (int, error) { return m.Comment.depth(), nil },
		func(_ *dserver.Context, j *Journal, m Work, n int) error {
			if n == maxReplies && m.Comment.depth() == n {
				j.write("worked")
			}
			return nil
		}),
)

var plain = dserver.Define[Journal]("plain") // an address

// What nobody could read is refused where it is sent, on each way: what was acknowledged can take effect.
func TestWhatCannotBeReadIsNotSent(t *testing.T) {
	cycle := &Looping{}
	cycle.Next = cycle
	woven := Woven{By: map[string][]Woven{}}
	woven.By["x"] = []Woven{woven}
	east, west := time.FixedZone("", 3600), time.FixedZone("", -3600)
	now := time.Now()
	db := newStore(t, plains).Open()
	s, ctx := plain.At(db, "a"), within(t)
	for name, m := range map[string]any{
		"too deep":                   Deepest{nested(maxReplies + 1)},
		"a cycle":                    cycle,
		"a cycle in a map":           woven,
		"a time too late":            Dated{At: time.Date(36812, 1, 1, 0, 0, 0, 0, time.UTC)},
		"a time too early":           Dated{All: []time.Time{time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)}},
		"two keys that are one":      Dated{By: map[time.Time]int{now.In(east): 1, now.In(west): 2}},
		"an address that is none":    Linked{&url.URL{Host: "a b<>"}},
		"raw and too deep":           dserver.Message{Name: "X", Body: levels(257)},
		"raw within, and too deep":   Packed{levels(256)},
		"raw within, of a wrong tag": Packed{[]byte{0xc0, 0x01}},
		"raw of a wrong tag":         dserver.Message{Name: "X", Body: []byte{0xc0, 0x01}},
		"raw and more":               dserver.Message{Name: "X", Body: []byte{0x01, 0x02}},
		"raw and less":               dserver.Message{Name: "X", Body: []byte{0x81}},
		"raw of no kind":             dserver.Message{Name: "X", Body: []byte{0x1c}},
		"raw without an end":         dserver.Message{Name: "X", Body: []byte{0x9f}},
		"raw and empty":              dserver.Message{Name: "X"},
		"pointers to pointers":       new(*Write),
	} {
		for verb, err := range map[string]error{
			"Cast":      s.Cast(ctx, m),
			"Cast Once": s.Cast(ctx, m, dserver.Once("k")),
			"After":     s.Cast(ctx, m, dserver.After(time.Hour)),
			"CastAll":   s.CastAll(ctx, []any{Write{"x"}, m}),
			"Call":      s.Call(ctx, m, nil),
			"Info":      s.Info(ctx, m),
		} {
			if err == nil || errors.Is(err, ctx.Err()) || !strings.Contains(err.Error(), "dserver: ") {
				t.Errorf("%s by %s: %v", name, verb, err)
			}
		}
	}
	if n := rows(t, db, "s"); n > 0 {
		t.Errorf("%d rows were written", n)
	}
}

// A message of the greatest depth goes each way, and comes back from each record that is written around it.
func TestTheDeepestMessageGoesEveryWay(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, far, ctx := open(), open(), within(t)
		start(t, db, plains)
		deepest := nested(maxReplies - 1) // in a message it is a level deeper, and a reply like that is
		for name, s := range map[string]*dserver.DServer[Journal]{"inline": plains.At(db, "a"), "queued": plain.At(far, "b")} {
			for _, opts := range [][]dserver.Option{nil, {dserver.Once("k")}, {dserver.Once("k")}} {
				c, err := dserver.Call(ctx, s, Echo{Comment: deepest}, opts...)
				if err != nil || c.depth() != maxReplies-1 {
					t.Errorf("%s: %d deep, %v", name, c.depth(), err)
				}
			}
			c, err := dserver.Call(ctx, s, Deepen{Replies: maxReplies})
			if err != nil || c.depth() != maxReplies {
				t.Errorf("%s: a reply %d deep, %v", name, c.depth(), err)
			}
			must(t, s.Cast(ctx, Deepest{deepest}))
			must(t, s.Cast(ctx, Deepest{deepest}, dserver.After(time.Millisecond)))
			must(t, s.Cast(ctx, Later{deepest}))
			must(t, s.Call(ctx, dserver.Message{Name: "Write", Body: append([]byte{0xa1, 0x61, 'x'}, levels(255)...)}, nil))
			eventually(t, "two letters and a timer", func() bool {
				state, err := s.State(ctx)
				return err == nil && state.Seen["timer"] == 1 && len(letters(t, s)) == 2
			})
			for _, d := range letters(t, s) {
				if d.Message.Name != "Deepest" || len(d.Message.Body) < 2*maxReplies {
					t.Errorf("%s: the letter %+v", name, d)
				}
				must(t, s.Retry(ctx, d))
			}
			eventually(t, "two letters again", func() bool { return len(letters(t, s)) == 2 })
		}
	})
}

// Locked work is a record as well.
func TestTheDeepestMessageIsWorkedOn(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db := open()
		start(t, db, plains)
		s := plains.At(db, "a")
		m := dserver.Message{Name: "Work", Body: deepWork(t)}
		must(t, s.Call(within(t), m, nil))
		if got := lines(t, s); len(got) != 1 || got[0] != "worked" {
			t.Errorf("the journal has %q", got)
		}
	})
}

// deepWork is a Work of the greatest depth: its innermost list is left out.
func deepWork(t *testing.T) []byte {
	body := []byte{0xa0}
	for range maxReplies {
		body = append(append([]byte{0xa1, 0x67}, "Replies\x81"...), body...)
	}
	return append(append([]byte{0xa1, 0x67}, "Comment"...), body...)
}

// A reply that nobody could read is its handler's failure: the caller is told, what the handler did is undone, and the
// calls after it are answered. Once it was written all the same, and each later call of that process failed at it.
func TestReplyThatCannotBeReadIsNotSent(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, far, ctx := open(), open(), within(t)
		start(t, db, plains)
		for _, s := range []*dserver.DServer[Journal]{plains.At(db, "a"), plain.At(far, "b")} {
			for _, deep := range []int{maxReplies + 1, 40_000} {
				for _, opts := range [][]dserver.Option{nil, {dserver.Once("k" + string(rune(deep)))}} {
					_, err := dserver.Call(ctx, s, Deepen{Replies: deep}, opts...)
					var answer *dserver.Error
					if !errors.As(err, &answer) || !strings.Contains(err.Error(), "reply") {
						t.Errorf("%d deep: %v", deep, err)
					}
				}
			}
			if _, err := s.State(ctx); !errors.Is(err, dserver.ErrNotFound) {
				t.Errorf("the state was changed: %v", err)
			}
			if got := lines(t, s); len(got) != 0 {
				t.Errorf("the journal has %q", got)
			}
		}
	})
}

// Mail that a newer version, or somebody else, wrote is passed: its caller is told, the log tells it once, and the calls
// after it get their answers.
func TestMailThatCannotBeReadIsPassed(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, far := open(), open()
		s := journal.At(far, "a")
		var log bytes.Buffer
		run(t, dserver.Consumer{Logger: zerolog.New(zerolog.SyncWriter(&log))}, far, plains) // only for its logger
		answers := make(chan error, 2)
		for range cap(answers) {
			go func() { answers <- s.Call(within(t), Append{Line: "x"}, nil) }()
		}
		eventually(t, "two calls wait", func() bool { return len(waiting(t, s)) == 2 })
		process, calls := mailboxOf(t, db)
		deliverTo(t, db, process,
			[]byte("rubbish"), []byte("\xa1\x64call\x61x"), []byte("\xa1\x64call\x00"), levels(300),
			slices.Concat([]byte("\xa2\x64call"), calls[0], []byte("\x64body"), levels(300)), // too deep
			slices.Concat([]byte("\xa2\x64call"), calls[1], []byte("\x65error\x01")))         // of another kind
		for range cap(answers) {
			if err := <-answers; !errors.Is(err, dserver.ErrReplyLost) || !strings.Contains(err.Error(), "cannot be read") {
				t.Errorf("the caller was told %v", err)
			}
		}
		start(t, db, journals)
		for range 3 {
			must(t, s.Call(within(t), Append{Line: "y"}, nil))
		}
		if n := strings.Count(log.String(), "an answer cannot be read"); n != 5 { // one is a mail for nobody
			t.Errorf("%d answers were logged:\n%s", n, &log)
		}
		clearMail(t, db)
	})
}

// mailboxOf finds the mailbox of the process whose calls wait, and these calls' numbers as they stand in answers.
func mailboxOf(t testing.TB, db backend.Database) (process backend.Key, calls [][]byte) {
	t.Helper()
	must(t, db.Read(within(t), func(tx backend.ReadTx) error {
		queued, err := tx.GetRange(backend.NewKey("s", "journal", "a", "q").Tree(), backend.RangeOptions{}).Get()
		for _, pair := range queued {
			var env struct {
				From string `cbor:"from"`
			}
			if cbor.Unmarshal(pair.Value, &env) == nil && env.From != "" {
				id, number, _ := strings.Cut(env.From, ".")
				process = backend.NewKey("p", id)
				call, err := strconv.ParseUint(number, 36, 64)
				must(t, err)
				b, err := cbor.Marshal(call)
				must(t, err)
				calls = append(calls, b)
			}
		}
		return err
	}))
	return process, calls
}

func deliverTo(t testing.TB, db backend.Database, process backend.Key, letters ...[]byte) {
	t.Helper()
	must(t, db.Transact(within(t), func(tx backend.Tx) error {
		tx.Add(process.Str("b"), 1)
		return queue.At(process.Str("m")).Push(tx, queue.Normal, letters...)
	}))
}

// A caller's bytes are its own again when a method has returned, also when it gave up while its message was handled.
func TestCallersBytesAreCopied(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	types := dserver.Define[Journal]("copies", dserver.HandleCast(func(*dserver.Context, *Journal, Write) error {
		close(entered)
		<-leave
		return errDenied
	}), dserver.HandleCall(func(_ *dserver.Context, j *Journal, _ Lines) ([]string, error) { return j.Lines, nil }))
	db := newStore(t, types).Open()
	start(t, db, types)
	s := types.At(db, "a")
	lines(t, s) // the consumer runs
	body := []byte("\xa1\x64Line\x65first")
	ctx, cancel := context.WithCancel(context.Background())
	gaveUp := make(chan error)
	go func() { gaveUp <- s.Cast(ctx, dserver.Message{Name: "Write", Body: body}) }()
	<-entered
	cancel()
	if err := <-gaveUp; err == nil {
		t.Error("the cast did not give up")
	}
	copy(body, "\xa1\x64Line\x65other")
	close(leave)
	eventually(t, "it is set aside", func() bool { return len(letters(t, s)) == 1 })
	if d := letters(t, s)[0]; !bytes.HasSuffix(d.Message.Body, []byte("first")) {
		t.Errorf("the letter has %q", d.Message.Body)
	}
}

// What decoding says of a message goes to its caller and its dead letter. Its text may be anybody's, so it is not logged.
func TestTheTextOfAMessageIsNotLogged(t *testing.T) {
	type Visit struct {
		dserver.Returns[int]
		At time.Time
		To *url.URL
		N  int
	}
	types := dserver.Define("visits", dserver.Settings[Journal]{MaxAttempts: 1},
		dserver.HandleCall(func(*dserver.Context, *Journal, Visit) (int, error) { return 0, nil }))
	db := newStore(t, types).Open()
	var log bytes.Buffer
	stop := run(t, dserver.Consumer{Logger: zerolog.New(zerolog.SyncWriter(&log))}, db, types)
	s := types.At(db, "a")
	for _, body := range []string{"\xa1\x62At\x6asecret sun", "\xa1\x62To\x4b:secret sun", "\xa1\x61N\x6asecret sun"} {
		for _, opts := range [][]dserver.Option{nil, {dserver.Priority()}} {
			if err := s.Call(within(t), dserver.Message{Name: "Visit", Body: []byte(body)}, nil, opts...); !errors.Is(err, dserver.ErrFault) {
				t.Error(err)
			}
		}
	}
	if d := letters(t, s)[0]; !strings.Contains(d.Stack, "secret") {
		t.Errorf("the letter does not say why: %+v", d)
	}
	stop()
	if text := log.String(); strings.Contains(text, "secret") || strings.Count(text, "it is no dserver_test.Visit") < 6 {
		t.Errorf("the log has\n%s", text)
	}
}

// A reply is not made up: a caller that waits for one of a message that has none is told.
func TestCallOfAMessageWithoutReplySaysSo(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, far, ctx := open(), open(), within(t)
		start(t, db, journals)
		var n int
		for i, s := range []*dserver.DServer[Journal]{journals.At(db, "a"), journal.At(db, "a"), journal.At(far, "a")} {
			err := s.Call(ctx, Write{"x"}, &n)
			if err == nil || !strings.Contains(err.Error(), "Write, which has no reply") && !strings.Contains(err.Error(), "Write has no reply") {
				t.Error(err)
			}
			if i > 0 && !errors.Is(err, dserver.ErrNoReply) {
				t.Errorf("it has taken effect, and is %v", err)
			}
			must(t, s.Call(ctx, Write{"y"}, nil))
			if got := lines(t, s); len(got) != 1+2*i { // with handlers it is known before it is sent
				t.Errorf("the journal has %q", got)
			}
		}
	})
}

// Heavy is 512 bytes of a row.
type (
	Heavy struct{ Rows []Row }
	Row   struct {
		ID   int64
		Text string
		More [60]uint64
	}
	Filed struct{ Rows [][]byte }
)

// Looking at a message costs memory in proportion to it.
func TestLookingAtAMessageCostsWhatItIsLarge(t *testing.T) {
	db := backendtest.NewModel()
	s := plain.At(db, "a")
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // all but the commit
	filed := Filed{make([][]byte, 2048)}
	for i := range filed.Rows {
		filed.Rows[i] = make([]byte, 512)
	}
	for name, m := range map[string]any{
		"rows of 512 bytes": filed,
		"rows":              Heavy{make([]Row, 2048)},
		"raw":               dserver.Message{Name: "Heavy", Body: append([]byte("\xa1\x64Rows\x9a\x00\x10\x00\x00"), bytes.Repeat([]byte{0xa0}, 1<<20)...)},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = s.Cast(ctx, m)
		runtime.ReadMemStats(&after)
		cost := after.TotalAlloc - before.TotalAlloc
		if cost > 16<<20 {
			t.Errorf("%s: a message of 1 MB takes %d bytes", name, cost)
		}
	}
}

// Types of which something would be lost are refused when they are sent by an address, which has no handlers that could
// have been refused when the program started.
func TestAddressesSendNothingThatWouldBeLost(t *testing.T) {
	type Mixed struct {
		time.Time
		N int
	}
	s, ctx := plain.At(newStore(t).Open(), "a"), within(t)
	for _, m := range []any{HasHidden{}, HasInterface{}, HasDeep{}, Mixed{}, struct{ F big.Float }{}} {
		if err := s.Cast(ctx, m); err == nil {
			t.Errorf("%T was sent", m)
		}
	}
	p := &pointed{"by pointer"}
	for _, m := range []any{p, *p} {
		must(t, s.Cast(ctx, m))
	}
	for _, q := range waiting(t, s) {
		if q.Message.Name != "by pointer" {
			t.Errorf("it is named %q", q.Message.Name)
		}
	}
}

type pointed struct{ Name string }

func (p *pointed) MessageName() string { return p.Name }

// clearMail removes what is no mail, so that what is stored can be checked.
func clearMail(t testing.TB, db backend.Database) {
	t.Helper()
	must(t, db.Transact(within(t), func(tx backend.Tx) error {
		tx.Clear(backend.NewKey("p").Tree())
		return nil
	}))
}

// Relay is answered when what it sends to another journal, with a key, is sent.
type Relay struct {
	dserver.Returns[int]
	Line, Key string
}

// A key whose record cannot be read, as a newer version or somebody else wrote it, is taken: who sends with it is told,
// and a server whose handler does is not stopped by it.
func TestKeyWhoseRecordCannotBeReadStopsNobody(t *testing.T) {
	relays := dserver.Define("relay",
		dserver.HandleCall(func(ctx *dserver.Context, j *Journal, m Relay) (int, error) {
			ctx.Cast(journal.Ref("a"), Write{m.Line}, dserver.Once(m.Key))
			return 1, nil
		}))
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, far, ctx := open(), open(), within(t)
		record := backend.NewKey("s", "journal", "a", "e", "k")
		set := func(change func(tx backend.Tx)) {
			t.Helper()
			must(t, far.Transact(ctx, func(tx backend.Tx) error {
				change(tx)
				return nil
			}))
		}
		set(func(tx backend.Tx) { tx.Set(record, []byte{0xff}) })
		start(t, db, journals, relays)
		for _, db := range []backend.Database{db, far} {
			if err := journal.At(db, "a").Cast(ctx, Write{"x"}, dserver.Once("k")); !errors.Is(err, dserver.ErrKeyReused) {
				t.Errorf("a cast with the key: %v", err)
			}
			if _, err := dserver.Call(ctx, journal.At(db, "a"), Append{Line: "x"}, dserver.Once("k")); !errors.Is(err, dserver.ErrKeyReused) {
				t.Errorf("a call with the key: %v", err)
			}
			if err := relays.At(db, "r").Call(ctx, Relay{Line: "x", Key: "k"}, nil); !errors.Is(err, dserver.ErrKeyReused) {
				t.Errorf("a turn that sends with the key: %v", err)
			}
			must(t, relays.At(db, "r").Call(ctx, Relay{Line: "y", Key: "k2"}, nil))
		}
		eventually(t, "the good one is handled", func() bool { return slices.Equal(lines(t, journal.At(db, "a")), []string{"y"}) })
		set(func(tx backend.Tx) { tx.Clear(record.Tree()) })
	})
}

// CBOR that is no message does not wait for a program that handles messages of no name.
func TestItemWithoutANameIsSetAside(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db := open()
		s := rudes.At(db, "a")
		push(t, db, s.Ref(), queue.Normal, []byte{0xf6}, []byte{0xa0}, []byte{})
		start(t, db, rudes)
		if got := lines(t, s); len(got) != 0 {
			t.Errorf("the journal has %q", got)
		}
		if n := len(letters(t, s)); n != 3 {
			t.Errorf("%d were set aside", n)
		}
	})
}
