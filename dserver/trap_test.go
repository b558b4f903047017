package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/tenant"
)

// The defects that were found by running a forerunner of this design. None of them may come back.

func TestTrap01CommitUnknownOnAPushCountsOnce(t *testing.T) {
	eachFault(t, func(h *host) {
		u := h.apart()
		for i := range 4 {
			_ = u.cast(fmt.Sprint(i))
		}
		u.verify()
	})
}

func TestTrap02CommitUnknownOnAnInlineCallRunsItOnce(t *testing.T) {
	eachFault(t, func(h *host) {
		u := h.beside()
		for i := range 4 {
			_ = u.call(fmt.Sprint(i))
		}
		u.verify()
	})
}

func TestTrap04ActionsRunOnceAlthoughTheCommitWasInDoubt(t *testing.T) {
	for _, apart := range []bool{true, false} {
		t.Run(map[bool]string{true: "queued", false: "inline"}[apart], func(t *testing.T) {
			eachFault(t, func(h *host) {
				u := h.beside()
				if apart {
					u = h.apart()
				}
				for i := range 3 {
					_ = u.mark(fmt.Sprint(i))
				}
				u.verify()
				for _, line := range u.lines() {
					if n := h.acted(line); n > 1 || n == 0 && !h.doubtful() {
						t.Errorf("%v: the action of %s ran %d times", h.f, line, n)
					}
				}
			})
		})
	}
}

// Everything that can be sent, by two senders at once, with messages among it that are refused and that break.
func TestEachFaultOverAProgramOfAllKinds(t *testing.T) {
	for _, c := range []struct {
		name  string
		users func(h *host) []*user
	}{
		{"beside", func(h *host) []*user { return []*user{h.beside()} }},
		{"apart", func(h *host) []*user { return []*user{h.apart()} }},
		{"both", func(h *host) []*user { return []*user{h.beside(), h.apart()} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachFault(t, func(h *host) {
				users := c.users(h)
				var wg sync.WaitGroup
				for i, u := range users {
					wg.Go(func() { u.program(fmt.Sprint(i)) })
				}
				wg.Wait()
				verifyAll(users)
			})
		})
	}
}

// program sends one of each kind. What is refused and what breaks must leave no line, and one dead letter for a cast.
func (u *user) program(prefix string) {
	_ = u.cast(prefix + "cast")
	_ = u.call(prefix + "call")
	_ = u.castAll(prefix+"all 1", prefix+"all 2")
	u.failing(prefix+"reject", errDenied, false, Reject{prefix + "reject"})
	u.failing(prefix+"deny", errDenied, true, Deny{Line: prefix + "deny"})
	_ = u.send(func(ctx context.Context, s *dserver.DServer[Journal]) error {
		return s.CastAll(ctx, []any{Write{prefix + "first"}, Reject{prefix + "middle"}, Write{prefix + "last"}})
	}, prefix+"first", prefix+"last")
	u.failing(prefix+"blow", dserver.ErrFault, false, Blow{prefix + "blow"})
	_ = u.cast(prefix + "after")
	u.failing(prefix+"burn", dserver.ErrFault, true, Burn{Line: prefix + "burn"})
	_ = u.call(prefix + "end")
}

// failing sends what must fail.
func (u *user) failing(_ string, want error, call bool, m any) {
	err := u.send(func(ctx context.Context, s *dserver.DServer[Journal]) error {
		if call {
			return s.Call(ctx, m, nil)
		}
		return s.Cast(ctx, m)
	})
	known := err == nil || !errors.Is(err, backend.ErrCommitUnknown) && !errors.Is(err, backend.ErrClosed) && !errors.Is(err, context.Canceled)
	if known && call && !errors.Is(err, want) || known && !call && err != nil {
		u.t.Errorf("%v: %T: %v", u.f, m, err)
	}
}

// verifyAll is verify for several users of one server, each of whose lines are in their order.
func verifyAll(users []*user) {
	first := users[0]
	first.t.Helper()
	<-time.After(time.Minute)
	got := first.lines()
	total := 0
	for i, u := range users {
		prefix := fmt.Sprint(i)
		mine := slices.DeleteFunc(slices.Clone(got), func(line string) bool { return !strings.HasPrefix(line, prefix) })
		verify(u.t, fmt.Sprint(u.f, " user ", i), mine, u.acked, u.unknown)
		total += len(mine)
	}
	if total != len(got) {
		first.t.Errorf("%v: lines of nobody: %q", first.f, got)
	}
	seen := map[string]int{}
	for d, err := range first.server().DeadLetters(context.Background()) {
		must(first.t, err)
		seen[fmt.Sprintf("%s %x", d.Message.Name, d.Message.Body)]++
	}
	for letter, n := range seen {
		if n > 1 {
			first.t.Errorf("%v: %d dead letters %s", first.f, n, letter)
		}
	}
	casts := 0
	for letter := range seen {
		if !strings.HasPrefix(letter, "Burn ") { // a call that broke is set aside only when it was queued
			casts++
		}
	}
	if !first.doubtful() && casts != 3*len(users) {
		first.t.Errorf("%v: dead letters %v", first.f, seen)
	}
}

// What was acknowledged is in the store: any process that dies after that takes nothing along.
func TestTrap13ACastIsDurableWhenItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, lags := newStore(t, journals), newLag(seeded(t), time.Millisecond)
		var want []string
		for i := range 20 {
			db := lags.on(store.Open())
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			if i%2 == 0 {
				go func() { ended <- dserver.Run(ctx, db, journals) }()
				synctest.Wait()
			} else {
				ended <- nil
			}
			want = append(want, fmt.Sprint(i), fmt.Sprint(i, " called"))
			must(t, journal.At(db, "a").Cast(context.Background(), Write{fmt.Sprint(i)}))
			must(t, journal.At(db, "a").Cast(ctx, Write{fmt.Sprint(i, " called")})) // its sender does not run the turn itself
			must(t, db.Close())                                                     // as a kill does
			cancel()
			<-ended
		}
		run(t, dserver.Consumer{}, store.Open(), journals)
		expectLines(t, lines(t, journal.At(store.Open(), "a")), want...)
	})
}

// Chat is a state with lists, whose order is kept beside the items.
type Chat struct {
	Posts []Post
	Pins  []*Post
}

type Post struct {
	ID   string `dserver:"id"`
	Text string
	Tags map[string]int
}

type (
	EditPosts struct{ Do string }
	ReadPosts struct{ dserver.Returns[[]string] }
)

// chats does what it is told by functions, so that a test has what it needs beside it.
func chats(do map[string]func(c *Chat)) *dserver.Definition[Chat] {
	return dserver.Define("chat",
		dserver.HandleCall(func(_ *dserver.Context, c *Chat, _ ReadPosts) ([]string, error) {
			texts := make([]string, len(c.Posts))
			for i, p := range c.Posts {
				texts[i] = p.ID + p.Text
			}
			return texts, nil
		}),
		dserver.HandleCast(func(_ *dserver.Context, c *Chat, m EditPosts) error { do[m.Do](c); return nil }),
	)
}

// chatRoom runs a chat, and reads it warm, cold and as a stranger. It expects all three to agree.
type chatRoom struct {
	t     *testing.T
	types *dserver.Definition[Chat]
	store *backendtest.Store
	db    backend.Database
}

func newChatRoom(t *testing.T, do map[string]func(c *Chat)) *chatRoom {
	types := chats(do)
	store := newStore(t, types)
	r := &chatRoom{t: t, types: types, store: store, db: store.Open()}
	start(t, r.db, types)
	return r
}

func (r *chatRoom) do(what string) error {
	return r.types.At(r.db, "a").Call(within(r.t), EditPosts{what}, nil)
}

func (r *chatRoom) expect(want ...string) {
	r.t.Helper()
	warm, err := dserver.Call(within(r.t), r.types.At(r.db, "a"), ReadPosts{})
	must(r.t, err)
	expectLines(r.t, warm, want...)
	cold, err := dserver.Query(within(r.t), r.types.At(r.store.Open(), "a"), ReadPosts{})
	must(r.t, err)
	expectLines(r.t, cold, want...)
}

func posts(ids ...string) (list []Post) {
	for _, id := range ids {
		list = append(list, Post{ID: id, Tags: map[string]int{}})
	}
	return list
}

func TestTrap08ReorderingAListIsPersisted(t *testing.T) {
	r := newChatRoom(t, map[string]func(c *Chat){
		"fill":    func(c *Chat) { c.Posts = posts("a", "b", "c", "d") },
		"reverse": func(c *Chat) { slices.Reverse(c.Posts) },
		"rotate":  func(c *Chat) { c.Posts = append(c.Posts[1:], c.Posts[0]) },
	})
	must(t, r.do("fill"))
	must(t, r.do("reverse"))
	r.expect("d", "c", "b", "a")
	must(t, r.do("rotate"))
	r.expect("c", "b", "a", "d")
	for range 20 {
		must(t, r.do("rotate"))
	}
	r.expect("c", "b", "a", "d")
}

func TestTrap09ReorderAndInsertAtOnce(t *testing.T) {
	r := newChatRoom(t, map[string]func(c *Chat){
		"fill": func(c *Chat) { c.Posts = posts("a", "b", "c", "d") },
		"all": func(c *Chat) {
			slices.Reverse(c.Posts)
			c.Posts = slices.Insert(c.Posts, 2, posts("x", "y")...)
			c.Posts = slices.Delete(c.Posts, 0, 1)
			c.Posts = append(c.Posts, posts("z")...)
			c.Posts[0].Text = "edited"
		},
	})
	must(t, r.do("fill"))
	must(t, r.do("all"))
	r.expect("cedited", "x", "y", "b", "a", "z")
}

// The caller is told, and nothing of the message is kept. The server lives on.
func TestTrap10DuplicateIDsAreRefused(t *testing.T) {
	r := newChatRoom(t, map[string]func(c *Chat){
		"fill":   func(c *Chat) { c.Posts = posts("a", "b") },
		"double": func(c *Chat) { c.Posts = append(c.Posts, posts("c", "a")...) },
		"delete": func(c *Chat) { c.Posts = c.Posts[1:] },
	})
	must(t, r.do("fill"))
	var e *dserver.Error
	if err := r.do("double"); !errors.As(err, &e) || !strings.Contains(err.Error(), "id") {
		t.Errorf("two of one id: %v", err)
	}
	r.expect("a", "b")
	must(t, r.do("delete"))
	r.expect("b")
}

// Far beyond where one value for the order of a list broke.
func TestTrap11LongListsGrow(t *testing.T) {
	next := 0
	r := newChatRoom(t, map[string]func(c *Chat){
		"append": func(c *Chat) {
			for range 500 {
				c.Posts = append(c.Posts, Post{ID: fmt.Sprintf("post-%05d-%s", next, strings.Repeat("i", 40))})
				next++
			}
		},
		"insert": func(c *Chat) {
			c.Posts = slices.Insert(c.Posts, len(c.Posts)/2, Post{ID: fmt.Sprint("inserted ", next)})
			next++
		},
	})
	for range 12 {
		must(t, r.do("append"))
	}
	for range 30 {
		must(t, r.do("insert"))
	}
	got, err := dserver.Query(within(t), r.types.At(r.store.Open(), "a"), ReadPosts{})
	if len(got) != 12*500+30 || err != nil {
		t.Fatalf("%d posts, %v", len(got), err)
	}
	r.expect(got...)
}

// A message or a reply over the limits is refused to whoever made it, and hurts nobody else.
func TestTrap15TooLargeIsRefusedWhereItIsMade(t *testing.T) {
	types := journals.With(dserver.HandleCall(func(_ *dserver.Context, _ *Journal, m Inflate) ([]byte, error) {
		return make([]byte, m.To), nil
	}))
	eachPath(t, types, func(t *testing.T, ctx context.Context, p path, s, _ *dserver.DServer[Journal]) {
		if err := s.Cast(ctx, Write{strings.Repeat("x", 4<<20)}, p.opts...); !errors.Is(err, backend.ErrTooLarge) {
			t.Errorf("Cast: %v", err)
		}
		var e *dserver.Error
		if _, err := dserver.Call(ctx, s, Inflate{To: 5 << 20}, p.opts...); !errors.As(err, &e) {
			t.Errorf("a reply that cannot be sent: %v", err)
		}
		for range 3 {
			if got, err := dserver.Call(ctx, s, Inflate{To: 3 << 20}, p.opts...); err != nil || len(got) != 3<<20 {
				t.Errorf("a large reply: %d bytes, %v", len(got), err)
			}
		}
	})
}

// Inflate asks for a large reply.
type Inflate struct {
	dserver.Returns[[]byte]
	To int
}

// What a turn writes has a limit, too: a batch that goes beyond it is handled in parts, and a message that does so by
// itself is set aside.
func TestTrap15TurnThatWritesTooMuchStopsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		types := journals.With(
			dserver.Settings[Journal]{MaxAttempts: 2},
			dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Flood) error {
				for range m.Messages {
					ctx.Cast(dserver.Ref{Type: "nobody runs it", ID: "x"}, Write{strings.Repeat("x", 3<<20)})
				}
				j.write(m.Line)
				return nil
			}))
		store := newStore(t, types)
		s := types.At(store.Open(), "a")
		must(t, s.CastAll(context.Background(), []any{
			Flood{"a", 2}, Flood{"b", 2}, Flood{"too much", 4}, Flood{"c", 1}, Flood{"d", 1}, Flood{"e", 1}, Write{"end"},
		}))
		run(t, dserver.Consumer{}, store.Open(), types)
		<-time.After(time.Minute)
		state, err := s.State(context.Background())
		must(t, err)
		expectLines(t, state.Lines, "a", "b", "c", "d", "e", "end")
		if n := deadLetters(t, s); n != 1 {
			t.Errorf("%d dead letters", n)
		}
	})
}

// Flood sends many large messages.
type Flood struct {
	Line     string
	Messages int
}

// Callers that gave up: their answers come late, reach nobody, and are removed.
func TestTrap18And19LateAnswersReachNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var actions atomic.Int64
		types := endings(&actions)
		store := newStore(t, types)
		s := types.At(store.Open(), "a")
		for i := range 200 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*time.Millisecond)
			_, err := dserver.Call(ctx, s, AskEnding{Line: fmt.Sprint("late ", i)})
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
		}
		run(t, dserver.Consumer{}, store.Open(), types)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				for j := range 3 {
					line := fmt.Sprint("on time ", i, j)
					got, err := dserver.Call(within(t), s, AskEnding{Line: line})
					if got != "reply to "+line || err != nil {
						t.Errorf("%s is answered %q, %v", line, got, err)
					}
				}
			})
		}
		wg.Wait()
		for i := range 64 { // they remove what was read, some at a time
			must(t, s.Call(within(t), AskEnding{Line: fmt.Sprint("last ", i)}, nil))
		}
		if n := mail(t, store.Open()); n > 40 {
			t.Errorf("%d answers are left", n)
		}
	})
}

// mail counts the answers in all mailboxes.
func mail(t testing.TB, db backend.Database) (n int) {
	t.Helper()
	must(t, db.Read(t.Context(), func(tx backend.ReadTx) error {
		pairs, err := tx.GetRange(backend.NewKey("p").Below(), backend.RangeOptions{}).Get()
		n = 0
		for _, pair := range pairs {
			if elements, err := pair.Key.Elements(); err == nil && len(elements) == 5 {
				n += len(tenant.Unbundle(pair.Value))
			}
		}
		return err
	}))
	return n
}

// What dead processes left is removed: by time that passes here without their beat, not by their clocks.
func TestTrap18AnswersToDeadProcessesAreSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals)
		dead := store.Open()
		for range 50 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			_, _ = dserver.Call(ctx, journal.At(dead, "a"), Append{Line: "x"})
			cancel()
		}
		must(t, dead.Close())
		db := store.Open()
		run(t, dserver.Consumer{}, db, journals)
		alive := store.Open()
		must(t, journal.At(alive, "a").Call(within(t), Append{Line: "alive"}, nil))
		if n := mail(t, db); n < 50 {
			t.Fatalf("%d answers: there is nothing to sweep", n)
		}
		waiting := make(chan error, 1)
		go func() { // a call that waits for very long keeps its process
			_, err := dserver.Call(context.Background(), dserver.Define[Journal]("nobody's").At(alive, "x"), Append{})
			waiting <- err
		}()
		<-time.After(20 * time.Minute)
		if n := mail(t, db); n > 1 {
			t.Errorf("%d answers are left", n)
		}
		run(t, dserver.Consumer{}, store.Open(), dserver.Define("nobody's", answers[Append]()))
		must(t, <-waiting)
	})
}

// The consumer lives, tries again and sets the message aside; one that has the handler takes it in the meantime.
func TestTrap23MessageWithoutAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals)
		db := store.Open()
		stop := run(t, dserver.Consumer{}, db, journals)
		synctest.Wait()
		ctx := context.Background()
		for _, sender := range []backend.Database{db, store.Open()} {
			s := journal.At(sender, "a")
			must(t, s.CastAll(ctx, []any{Write{"before"}, Strange{1}, Write{"after"}}))
			must(t, journal.At(sender, "b").Cast(ctx, Write{"beside"}))
			expectLines(t, lines(t, journal.At(sender, "b"))[:1], "beside")
			began := time.Now()
			must(t, s.Call(ctx, Write{"end"}, nil))
			if waited := time.Since(began); waited < time.Minute {
				t.Errorf("it was set aside after %v: consumers of a newer version may start", waited)
			}
		}
		s := journal.At(db, "a")
		expectLines(t, lines(t, s), "before", "after", "end", "before", "after", "end")
		if n := deadLetters(t, s); n != 2 {
			t.Errorf("%d dead letters", n)
		}
		if err := s.Call(ctx, Strange{1}, nil); !errors.Is(err, dserver.ErrFault) || !strings.Contains(err.Error(), "no handler") {
			t.Errorf("an inline call: %v", err)
		}

		must(t, s.Cast(ctx, Strange{7}))
		newer := journals.With(dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Strange) error {
			j.write(fmt.Sprint("strange ", m.N))
			return nil
		}))
		stop() // or it might make all attempts before the newer one makes any
		run(t, dserver.Consumer{}, store.Open(), newer)
		_ = s.Call(ctx, Write{"last"}, nil)
		got := lines(t, s)
		expectLines(t, got[len(got)-2:], "strange 7", "last")
	})
}

// Senders of the node do not wait: casts to the slow server are queued, others are served.
func TestTrap24SlowHandlerBlocksNobodyWhoSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := journals.With(dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Mark) error {
			<-time.After(3 * time.Second)
			j.write(m.Line)
			return nil
		}))
		store := newStore(t, types)
		db := store.Open()
		run(t, dserver.Consumer{Turns: 2}, db, types)
		synctest.Wait()
		ctx := context.Background()
		must(t, types.At(store.Open(), "slow").CastAll(ctx, []any{Mark{"1"}, Mark{"2"}, Mark{"3"}}))
		<-time.After(100 * time.Millisecond)
		for i := range 20 {
			began := time.Now()
			must(t, types.At(db, "slow").Cast(ctx, Write{fmt.Sprint(i)}))
			if waited := time.Since(began); waited > 200*time.Millisecond {
				t.Errorf("cast %d to the slow server took %v", i, waited)
			}
			began = time.Now()
			if _, err := dserver.Call(ctx, types.At(db, "quick"), Append{Line: "x"}); err != nil || time.Since(began) > 50*time.Millisecond {
				t.Errorf("a call to another server took %v, %v", time.Since(began), err)
			}
		}
		expectLines(t, lines(t, types.At(db, "slow")), append([]string{"1", "2", "3"}, numbered("", 20)...)...)

		for i := range 4 { // the sender of a slow message waits for its handler once, and then it is known to be slow
			<-time.After(10 * time.Second)
			began := time.Now()
			must(t, types.At(db, "slower").Cast(ctx, Mark{"slow"}))
			if waited := time.Since(began); i > 0 && waited > 200*time.Millisecond {
				t.Errorf("slow cast %d took %v", i, waited)
			}
		}
	})
}

// One field of one item costs its row and the fixed records of a turn, however long the list is.
func TestTrap25SmallChangeWritesLittle(t *testing.T) {
	var cost [2]int64
	for i, n := range []int{10, 5000} {
		types := chats(map[string]func(c *Chat){
			"fill": func(c *Chat) {
				for i := range n {
					c.Posts = append(c.Posts, Post{ID: fmt.Sprint(i), Text: strings.Repeat("t", 40), Tags: map[string]int{}})
				}
			},
			"edit": func(c *Chat) { c.Posts[len(c.Posts)/2].Text = strings.Repeat("e", 40) },
			"move": func(c *Chat) { c.Posts = append(c.Posts[1:], c.Posts[0]) },
			"tag":  func(c *Chat) { c.Posts[len(c.Posts)/2].Tags["new"]++ },
		})
		counting := &countingDB{Database: newStore(t, types).Open()}
		start(t, counting, types)
		s := types.At(counting, "a")
		must(t, s.Call(within(t), EditPosts{"fill"}, nil))
		for _, what := range []string{"edit", "move", "tag"} {
			before := counting.bytes.Load()
			must(t, s.Call(within(t), EditPosts{what}, nil))
			cost[i] += counting.bytes.Load() - before
		}
	}
	if cost[0] == 0 || cost[1] > cost[0]*3/2 {
		t.Errorf("three small changes wrote %d bytes in a list of 10 and %d in one of 5,000", cost[0], cost[1])
	}
}

// countingDB counts what its transactions write.
type countingDB struct {
	backend.Database
	bytes atomic.Int64
}

func (d *countingDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	var written int64
	err := d.Database.Transact(ctx, func(tx backend.Tx) error {
		c := &countingTx{Tx: tx}
		err := fn(c)
		written = c.bytes
		return err
	})
	if err == nil {
		d.bytes.Add(written)
	}
	return err
}

type countingTx struct {
	backend.Tx
	bytes int64
}

func (t *countingTx) Set(key backend.Key, value []byte) {
	t.bytes += int64(len(key) + len(value))
	t.Tx.Set(key, value)
}

func (t *countingTx) Append(prefix backend.Key, value []byte) {
	t.bytes += int64(len(prefix) + len(value))
	t.Tx.Append(prefix, value)
}

// Many callers join one turn; what one of them does wrong is its own affair.
func TestTrap26OnesErrorIsNobodyElses(t *testing.T) {
	random := seeded(t)
	for _, consumers := range []int{1, 2} {
		t.Run(fmt.Sprint("consumers=", consumers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { manyWithErrors(t, random, consumers) })
		})
	}
}

func manyWithErrors(t *testing.T, random *rand.Rand, consumers int) {
	store := newStore(t, journals)
	db := store.Open()
	run(t, dserver.Consumer{}, db, journals)
	for range consumers - 1 {
		run(t, dserver.Consumer{}, store.Open(), journals)
	}
	synctest.Wait()
	s := journals.At(db, "a")
	ctx := context.Background()
	var mu sync.Mutex
	var want []string
	var wg sync.WaitGroup
	for i := range 16 {
		choose := rand.New(rand.NewPCG(random.Uint64(), 0))
		wg.Go(func() {
			for j := range 20 {
				line := fmt.Sprint(i, " ", j)
				switch choose.IntN(6) {
				case 0:
					if _, err := dserver.Call(ctx, s, Deny{Line: line}); !errors.Is(err, errDenied) {
						t.Errorf("%s: %v", line, err)
					}
				case 1:
					if _, err := dserver.Call(ctx, s, Burn{Line: line}); !errors.Is(err, dserver.ErrFault) {
						t.Errorf("%s: %v", line, err)
					}
				default:
					if _, err := dserver.Call(ctx, s, Append{Line: line}); err != nil {
						t.Errorf("%s: %v", line, err)
					}
					mu.Lock()
					want = append(want, line)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	got := lines(t, s)
	slices.Sort(got)
	slices.Sort(want)
	expectLines(t, got, want...)
}
