package dserver_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Wordy is a message with a map, whose pairs Go hands out in any order.
type Wordy struct{ Words map[string]int }

// A key that was used for one message is refused for another, before and after that is handled, by each way to send.
func TestKeyIsBoundToItsMessage(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		types := journals.With(dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Wordy) error {
			j.write(fmt.Sprint(len(m.Words)))
			return nil
		}))
		here, away := open(), open()
		ctx := within(t)
		s := types.At(away, "a")
		k := dserver.Once("k")
		words := Wordy{map[string]int{}}
		for i := range 50 {
			words.Words[fmt.Sprint(i)] = i
		}
		refused := func(s *dserver.DServer[Journal]) {
			t.Helper()
			for what, err := range map[string]error{
				"another name":        s.Cast(ctx, Write{"x"}, k),
				"a question":          s.Call(ctx, Lines{}, new([]string), k),
				"another body":        s.Cast(ctx, Wordy{map[string]int{"1": 2}}, k),
				"one more":            s.CastAll(ctx, []any{words, words}, k),
				"with other options":  s.Cast(ctx, Write{"x"}, k, dserver.After(time.Hour), dserver.Priority()),
				"a message by a name": s.Cast(ctx, dserver.Message{Name: "Write", Body: []byte{0xa0}}, k),
			} {
				if !errors.Is(err, dserver.ErrKeyReused) {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
		for range 20 {
			must(t, s.Cast(ctx, words, k))
		}
		refused(s)
		start(t, here, types)
		expectLines(t, lines(t, types.At(here, "a")), "50")
		refused(s)
		refused(types.At(here, "a"))
		must(t, s.Call(ctx, words, nil, k, dserver.After(time.Hour))) // how it is sent is no part of it
		expectLines(t, lines(t, s), "50")
	})
}

// A handler that uses a key for another message is refused like any sender, and leaves no trace: of those in its batch
// and before it all stays.
func TestHandlerThatUsesAKeyForAnotherMessageIsRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		types := safes(easyToil)
		db, ctx := open(), within(t)
		s := types.At(db, "a")
		must(t, s.CastAll(ctx, []any{
			Remit{ID: "1", To: "b", Key: "k", Cents: 5}, Stow{"between"}, Remit{ID: "2", To: "b", Key: "k", Cents: 7}, Stow{"after"},
		}))
		start(t, open(), types)
		must(t, s.Call(ctx, Stow{"end"}, nil))
		expectSeen(t, s, "1", "between", "after", "end")
		if err := s.Call(ctx, Remit{ID: "3", To: "b", Key: "k", Cents: 6}, nil); !errors.Is(err, dserver.ErrKeyReused) {
			t.Errorf("the caller is told %v", err)
		}
		for d, err := range s.DeadLetters(ctx) {
			if must(t, err); !errors.Is(&d.Err, dserver.ErrKeyReused) || d.Attempts != 1 {
				t.Errorf("a dead letter %+v", d)
			}
		}
		if n := deadLetters(t, s); n != 1 {
			t.Errorf("%d dead letters", n)
		}
		state, err := s.State(ctx)
		if must(t, err); state.Cents != -5 {
			t.Errorf("it has %d cents", state.Cents)
		}
		expectSeen(t, safe.At(db, "b"), "k passed")
	})
}

// Askers give the address of who asks to a keeper, another server, which answers when it is told.
type (
	Asker   struct{}
	Keeper  struct{ Kept []dserver.From[string] }
	Inquire struct{ dserver.Returns[string] }
	Keep    struct{ From dserver.From[string] }
	Release struct{ Text string } // to the first
)

var keepers = dserver.Define("keeper",
	dserver.HandleCast(func(_ *dserver.Context, k *Keeper, m Keep) error {
		k.Kept = append(k.Kept, m.From)
		return nil
	}),
	dserver.HandleCast(func(ctx *dserver.Context, k *Keeper, m Release) error {
		k.Kept[0].Reply(ctx, m.Text)
		k.Kept = k.Kept[1:]
		return nil
	}))

var askers = dserver.Define("asker",
	dserver.HandleCall(func(ctx *dserver.Context, _ *Asker, m Inquire) (string, error) {
		ctx.Cast(keepers.Ref("k"), Keep{dserver.ReplyLater(ctx, m)})
		return "", nil
	}))

func expectKept(t *testing.T, db backend.Database, n int) (kept []dserver.From[string]) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d addresses are kept", n), func() bool {
		s, err := keepers.At(db, "k").State(t.Context())
		kept = s.Kept
		return err == nil && len(s.Kept) == n
	})
	return kept
}

// inquire asks with a key, and tells the answer.
func inquire(ctx context.Context, db backend.Database) <-chan string {
	answer := make(chan string, 1)
	go func() {
		text, err := dserver.Call(ctx, askers.At(db, "a"), Inquire{}, dserver.Once("k"))
		if err != nil {
			text = err.Error()
		}
		answer <- text
	}()
	return answer
}

// heldReads is a database whose reads can be held.
type heldReads struct {
	backend.Database
	held  sync.RWMutex
	begun chan struct{} // receives when a read has ended
}

func (h *heldReads) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	h.held.RLock()
	defer h.held.RUnlock()
	defer func() {
		select {
		case h.begun <- struct{}{}:
		default:
		}
	}()
	return h.Database.Read(ctx, fn)
}

// A key is of the life in which it was used: the answer of a life before a kill is not the outcome of the next one's
// key, and who waited for the key when the server was killed is told so, also when it looks later.
func TestKeyIsOfTheLifeOfItsServer(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		start(t, open(), askers, keepers)
		first := inquire(ctx, db)
		expectKept(t, db, 1)
		slow := &heldReads{Database: open(), begun: make(chan struct{}, 1)}
		second := inquire(ctx, slow) // waits for the key
		<-slow.begun

		slow.held.Lock()
		must(t, askers.At(db, "a").Kill(ctx))
		next := inquire(ctx, db)
		expectKept(t, db, 2)
		slow.held.Unlock()
		if got := <-second; !strings.Contains(got, dserver.ErrKilled.Text) {
			t.Errorf("who waited for the key is told %q", got)
		}
		again := inquire(ctx, open())
		for _, text := range []string{"of the old life", "of the new life"} {
			must(t, keepers.At(db, "k").Call(ctx, Release{text}, nil))
		}
		for _, c := range []struct {
			who  string
			got  <-chan string
			want string
		}{{"the first caller", first, "of the old life"}, {"the new life's", next, "of the new life"}, {"who repeats it", again, "of the new life"}} {
			if got := <-c.got; got != c.want {
				t.Errorf("%s got %q", c.who, got)
			}
		}
	})
}

// Forge is told an address, and answers whomever it can make up from it.
type Forge struct{ From dserver.From[string] }

// An address that a handler makes up answers nobody and decides no key, however much it knows of those that it was given.
func TestMadeUpAddressesDecideNothing(t *testing.T) {
	forgers := dserver.Define("forger", dserver.HandleCast(func(ctx *dserver.Context, _ *Asker, m Forge) error {
		caller, _, _ := strings.Cut(string(m.From), "/")
		process, call, _ := strings.Cut(caller, ".")
		forged := []string{process, caller + "0", caller[:len(caller)-1]}
		for i := range 100 {
			forged = append(forged, process+"."+fmt.Sprint(i), process+"."+call+fmt.Sprint(i))
		}
		for _, parts := range [][]string{{"asker", "a", "k"}, {"asker", "a", "k", ""}, {"asker", "a", "k", "WORD"}, {"asker", "a"}, {}} {
			b, err := cbor.Marshal(parts)
			if err != nil {
				return err
			}
			forged = append(forged, "/"+hex.EncodeToString(b), process+".zz/"+hex.EncodeToString(b))
		}
		for _, address := range forged {
			dserver.From[string](address).Reply(ctx, "forged")
		}
		return nil
	}))
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		start(t, open(), askers, keepers, forgers)
		victims := []<-chan string{inquire(ctx, db)}
		kept := expectKept(t, db, 1)
		victims = append(victims, inquire(ctx, open()))
		for range 3 {
			other := make(chan string, 1)
			victims = append(victims, other)
			go func() {
				text, err := dserver.Call(ctx, askers.At(db, "b"), Inquire{})
				other <- fmt.Sprint(text, err)
			}()
		}
		expectKept(t, db, 4)
		must(t, forgers.At(db, "f").Call(ctx, Forge{kept[0]}, nil))
		for range 4 {
			must(t, keepers.At(db, "k").Call(ctx, Release{"right"}, nil))
		}
		for i, v := range victims {
			if got := <-v; strings.TrimSuffix(got, "<nil>") != "right" {
				t.Errorf("caller %d got %q", i, got)
			}
		}
	})
}

// A record that an older version wrote is bound to no message: it takes any, and gives its outcome, as it did.
func TestKeyOfAnOlderVersionIsRead(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := journals.At(db, "a")
		must(t, s.Cast(ctx, Write{"x"}, dserver.Once("k")))
		must(t, db.Transact(ctx, func(tx backend.Tx) error { // as it was: of the record and the message
			for _, r := range []backend.Range{backend.NewKey("s", "journal", "a", "e", "k").Tree(), backend.NewKey("s", "journal", "a", "q", 1).Below()} {
				pairs, err := tx.GetRange(r, backend.RangeOptions{}).Get()
				if err != nil {
					return err
				}
				for _, pair := range pairs {
					var record map[string]any
					must(t, cbor.Unmarshal(pair.Value, &record))
					delete(record, "word")
					delete(record, "sum")
					old, err := cbor.Marshal(record)
					must(t, err)
					tx.Set(pair.Key, old)
				}
			}
			return nil
		}))
		must(t, s.Cast(ctx, Write{"y"}, dserver.Once("k")))
		start(t, open(), journals)
		must(t, s.Call(ctx, Write{"z"}, nil, dserver.Once("k")))
		expectLines(t, lines(t, s), "x")
	})
}
