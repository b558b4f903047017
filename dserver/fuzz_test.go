package dserver_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/queue"
)

// The fuzz targets give any bytes to each place where bytes come in. Whatever they are, no goroutine panics, no server is
// lost, and the next good message is handled. Their seeds run with all other tests.

// seeds are bytes that once broke something, and the kinds of CBOR.
func seeds(f *testing.F) {
	for _, seed := range [][]byte{
		nil, {0xc0, 0x01}, {0xa1, 0x61, 'B', 0xc0, 0x01}, {0xa1, 0x61, 'B', 0x61, 0xff}, {0x9f, 0x01, 0xff}, {0xbf, 0xff},
		{0xa2, 0x61, 'B', 0x01, 0x61, 'B', 0x02}, {0x01, 0x02}, {0xf8, 0x20}, {0xf8, 0x18}, {0xf6}, {0xf7}, {0xfb}, {0xff},
		{0xd9, 0xd9, 0xf7, 0xa0}, {0xc2, 0x41, 0x01}, {0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0x7f, 0x61, 'x', 0xff},
		{0xda, 'D', 'S', 'C', 'H', 0, 0, 0, 1}, []byte("\xa1\x62At\xc0\x78\x1e+36812-01-01T00:00:00.0000000Z"),
		[]byte("\xa2\x64name\x64Echo\x64body\xa1\x61B\xc0\x01"), []byte("\xa2\x64call\x01\x64body\xc0\x01"),
		append([]byte{0xa1, 0x61, 'B'}, levels(255)...), append([]byte{0xa1, 0x61, 'B'}, levels(300)...), levels(256), levels(65_000),
		bytes.Repeat([]byte{0xc1}, 70_000),
	} {
		f.Add(seed)
	}
}

type (
	Bytes struct { // is answered with what it holds
		dserver.Returns[cbor.RawMessage]
		B cbor.RawMessage
	}
	Kept    struct{ B cbor.RawMessage } // becomes the state
	Refused struct{ B cbor.RawMessage }
	Broken  struct{ B cbor.RawMessage }
	Pile    struct {
		Lines [][]byte
		Raw   cbor.RawMessage
	}
)

var piles = dserver.Define("pile", dserver.Settings[Pile]{MaxAttempts: 1, NoHandlerWait: time.Millisecond},
	dserver.HandleCall(func(_ *dserver.Context, _ *Pile, m Bytes) (cbor.RawMessage, error) { return m.B, nil }),
	dserver.HandleCast(func(_ *dserver.Context, s *Pile, m Kept) error {
		s.Lines, s.Raw = [][]byte{m.B}, m.B
		return nil
	}),
	dserver.HandleCast(func(*dserver.Context, *Pile, Refused) error { return errors.New("no") }),
	dserver.HandleCast(func(*dserver.Context, *Pile, Broken) error { panic("no") }),
)

// fuzzed runs a consumer, and looks at its end whether a good message is handled, and what is stored is whole.
func fuzzed(t *testing.T, test func(ctx context.Context, here, far *dserver.DServer[Pile], db backend.Database)) {
	store := backendtest.NewStore()
	db := store.Open()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stop := run(t, dserver.Consumer{}, db, piles)
	here, far := piles.At(db, "a"), piles.At(store.Open(), "a")
	test(ctx, here, far, db)
	for _, s := range []*dserver.DServer[Pile]{here, far} {
		got, err := dserver.Call(ctx, s, Bytes{B: []byte{0x07}})
		if err != nil || !bytes.Equal(got, []byte{0x07}) {
			t.Errorf("the next good message: %x, %v", got, err)
		}
	}
	stop()
	check(t, store.Open(), piles)
}

// A message's body, however it is sent and whatever its handler does.
func FuzzMessage(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		fuzzed(t, func(ctx context.Context, here, far *dserver.DServer[Pile], _ backend.Database) {
			for _, s := range []*dserver.DServer[Pile]{here, far} {
				for _, name := range []string{"Bytes", "Kept", "Refused", "Broken", "Nobody"} {
					m := dserver.Message{Name: name, Body: body}
					_ = s.Cast(ctx, m)
					_ = s.Call(ctx, m, new(any), dserver.Once("k"+name))
				}
				_, _ = dserver.Call(ctx, s, Bytes{B: body})
				for _, m := range []any{Kept{body}, Refused{body}, Broken{body}} {
					_ = s.Cast(ctx, m)
					_ = s.Cast(ctx, m, dserver.After(time.Millisecond))
				}
				_, _ = s.State(ctx)
			}
		})
	})
}

// An item of the queue, as another program may have put it there.
func FuzzItem(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, item []byte) {
		fuzzed(t, func(ctx context.Context, here, _ *dserver.DServer[Pile], db backend.Database) {
			push(t, db, here.Ref(), queue.Normal, item)
			push(t, db, here.Ref(), queue.Priority, item)
		})
	})
}

// A dead letter that is edited, retried, and set aside again.
func FuzzLetter(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		fuzzed(t, func(ctx context.Context, here, _ *dserver.DServer[Pile], db backend.Database) {
			must(t, here.Cast(ctx, Refused{[]byte{0x01}}))
			push(t, db, here.Ref(), queue.Normal, body)
			_, _ = dserver.Call(ctx, here, Bytes{B: []byte{0x07}}) // both have been set aside
			for range 2 {
				for d, err := range here.DeadLetters(ctx) {
					must(t, err)
					_ = here.Retry(ctx, d)
					d.Message = dserver.Message{Name: "Refused", Body: body}
					_ = here.Retry(ctx, d)
				}
				_, _ = dserver.Call(ctx, here, Bytes{B: []byte{0x07}})
			}
		})
	})
}

// A record of a server, and an answer in a mailbox: one that cannot be read stops nobody else's.
func FuzzMail(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, letter []byte) {
		store := backendtest.NewStore()
		db, far := store.Open(), store.Open()
		s := journal.At(far, "a")
		answer := make(chan error, 1)
		go func() { answer <- s.Call(within(t), Append{Line: "x"}, nil) }()
		eventually(t, "a call waits", func() bool { return len(waiting(t, s)) == 1 })
		process, calls := mailboxOf(t, db)
		deliverTo(t, db, process, letter, slices.Concat([]byte("\xa2\x64call"), calls[0], []byte("\x64body"), letter))
		start(t, db, journals)
		err := <-answer
		var decided *dserver.Error
		if err != nil && !errors.As(err, &decided) {
			t.Errorf("the caller was told %v", err)
		}
		must(t, s.Call(within(t), Append{Line: "y"}, nil))
	})
}
