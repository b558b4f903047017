package dserver_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/queue"
)

func TestDeadLettersTellWhatWasSetAsideAndWhy(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, far, ctx := open(), open(), within(t)
		start(t, db, ledgers)
		s := ledgers.At(db, "x")
		must(t, s.Cast(ctx, Refusal{"inline"}))
		must(t, ledgers.At(far, "x").Cast(ctx, Refusal{"queued"}))
		must(t, ledgers.At(far, "x").Cast(ctx, Burst{"burst"}))
		push(t, db, s.Ref(), queue.Normal, []byte("rubbish"))
		must(t, s.Cast(ctx, Note{1}))
		eventually(t, "all four are set aside", func() bool { return statusOf(t, s).DeadLetters == 4 })
		all := letters(t, s)
		names := []string{"Refusal", "Refusal", "Burst", ""}
		for i, d := range all {
			if d.Message.Name != names[i] || time.Since(d.Since) > time.Minute {
				t.Errorf("letter %d is a %q, set aside %v", i, d.Message.Name, d.Since)
			}
			one, err := s.DeadLetter(ctx, d.Stamp)
			if err != nil || one.Stamp != d.Stamp || one.Err != d.Err || string(one.Message.Body) != string(d.Message.Body) {
				t.Errorf("letter %d alone is %+v, %v", i, one, err)
			}
		}
		refused, burst, rubbish := all[1], all[2], all[3]
		if !errors.Is(&refused.Err, errDenied) || refused.Attempts != 1 || refused.Stack != "" {
			t.Errorf("the refused one: %+v", refused)
		}
		if !errors.Is(&burst.Err, dserver.ErrFault) || burst.Attempts != 2 || !strings.Contains(burst.Stack, "operator_test.go") {
			t.Errorf("the one that broke: %+v", burst)
		}
		if string(rubbish.Message.Body) != "rubbish" || !errors.Is(&rubbish.Err, dserver.ErrFault) {
			t.Errorf("the one that cannot be read: %+v", rubbish)
		}
		if _, err := s.DeadLetter(ctx, backend.NewVersionstamp(1<<60, 0)); !errors.Is(err, dserver.ErrNotFound) {
			t.Error(err)
		}
	})
}

func TestDeadLettersAreReadPageByPage(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := ledgers.At(db, "x")
		long := strings.Repeat("-", 150_000)
		const count = 230
		for n := range count {
			text := fmt.Sprint(n)
			if n%23 == 0 {
				text += long
			}
			must(t, s.Cast(ctx, Refusal{text}))
		}
		start(t, db, ledgers)
		eventually(t, "all are set aside", func() bool { return statusOf(t, s).DeadLetters == count })
		all := letters(t, s)
		for n, d := range all {
			var fields map[string]string
			must(t, cbor.Unmarshal(d.Message.Body, &fields))
			if strings.TrimRight(fields["Text"], "-") != fmt.Sprint(n) {
				t.Fatalf("letter %d is %.20q", n, fields["Text"])
			}
		}
		if len(all) != count {
			t.Errorf("%d letters, want %d", len(all), count)
		}
		must(t, firstError(s.DeadLetters(ctx)))
	})
}

// The largest message that can be sent is set aside like any other, with the stack of its panic.
func TestLargestMessageIsSetAsideAndRetried(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := ledgers.At(db, "x")
		largest := ""
		for size := queue.MaxItemBytes; largest == ""; size -= 4 << 10 {
			text := strings.Repeat("x", size)
			switch err := s.Cast(ctx, Burst{text}); {
			case err == nil:
				largest = text
			case !errors.Is(err, backend.ErrTooLarge):
				t.Fatal(err)
			}
		}
		start(t, db, ledgers.With(dserver.Settings[Ledger]{MaxAttempts: 2})) // it breaks
		eventually(t, "it is set aside", func() bool { return statusOf(t, s).DeadLetters == 1 })
		d := letters(t, s)[0]
		if d.Stack == "" || !strings.Contains(string(d.Message.Body), largest) {
			t.Fatalf("a letter of %d bytes with stack %q", len(d.Message.Body), d.Stack)
		}
		d.Message.Name = "Page"
		must(t, s.Retry(within(t), d))
		eventually(t, "it is taken", func() bool { return statusOf(t, s).Queued == 0 })
		for _, d := range letters(t, s) {
			t.Fatalf("it is set aside again: %v", &d.Err)
		}
		if state, err := s.State(within(t)); err != nil || state.Text != largest {
			t.Errorf("the state has %d bytes of %d, %v", len(state.Text), len(largest), err)
		}
	})
}

// setAside makes a server with one dead letter and no consumer.
func setAside(t *testing.T, db backend.Database, m any) (s *dserver.DServer[Ledger], d dserver.DeadLetter) {
	t.Helper()
	s = ledgers.At(db, "x")
	must(t, s.Cast(within(t), m))
	stop := run(t, dserver.Consumer{}, db, ledgers)
	eventually(t, "it is set aside", func() bool { return statusOf(t, s).DeadLetters == 1 })
	stop()
	return s, letters(t, s)[0]
}

func TestRetryGoesBehindTheQueueAndIsGoneTheSecondTime(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s, d := setAside(t, db, Refusal{"no"})
		must(t, s.Cast(ctx, Note{1}))
		edited := d
		edited.Message = dserver.Message{Name: "Note", Body: []byte{0xa1, 0x61, 'N', 0x02}}
		must(t, s.Retry(ctx, edited))
		for _, err := range []error{s.Retry(ctx, d), s.Discard(ctx, d)} {
			if !errors.Is(err, dserver.ErrNotFound) {
				t.Errorf("the second time: %v", err)
			}
		}
		if status := statusOf(t, s); status.Queued != 2 || status.DeadLetters != 0 {
			t.Errorf("%+v", status)
		}
		start(t, db, ledgers)
		if seen := seenAfter(t, ctx, s); !slices.Equal(seen, []int{1, 2}) {
			t.Errorf("seen %v", seen)
		}
	})
}

func TestRetryRefusesWhatCannotBeSentAndKeepsTheLetter(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s, d := setAside(t, db, Refusal{"no"})
		for _, m := range []dserver.Message{
			{Name: "Nobody", Body: d.Message.Body},
			{Name: "Note", Body: []byte{0xff}},
			{Name: "", Body: []byte("edited")},
		} {
			edited := d
			edited.Message = m
			if err := s.Retry(ctx, edited); err == nil {
				t.Errorf("%q is sent", m)
			}
		}
		if status := statusOf(t, s); status.Queued != 0 || status.DeadLetters != 1 {
			t.Errorf("%+v", status)
		}
		must(t, s.Discard(ctx, d))
		if status := statusOf(t, s); status.DeadLetters != 0 || len(letters(t, s)) != 0 {
			t.Errorf("%+v", status)
		}
	})
}

// A message that this version cannot read may be one that the next can.
func TestUnreadableMessageIsRetriedAsItIsOrEdited(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		ref := ledgers.Ref("x")
		push(t, db, ref, queue.Normal, []byte("rubbish"))
		s, d := setAside(t, db, Note{1})
		must(t, s.Retry(ctx, d))
		queued := waiting(t, s) // with or without Note, which was behind it
		if last := queued[len(queued)-1]; string(last.Message.Body) != "rubbish" {
			t.Fatalf("%+v", queued)
		}
		stop := run(t, dserver.Consumer{}, db, ledgers)
		eventually(t, "it is set aside again", func() bool { return statusOf(t, s).DeadLetters == 1 })
		stop()
		d = letters(t, s)[0]
		d.Message = dserver.Message{Name: "Note", Body: []byte{0xa1, 0x61, 'N', 0x07}}
		must(t, s.Retry(ctx, d))
		start(t, db, ledgers)
		if seen := seenAfter(t, ctx, s); !slices.Equal(seen, []int{1, 7}) {
			t.Errorf("seen %v", seen)
		}
	})
}

// The caller of a call that broke was answered. Its retry has none.
func TestRetriedCallHasNoCaller(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		here, ctx := open(), within(t)
		stop := run(t, dserver.Consumer{}, here, ledgers)
		if err := ledgers.At(open(), "x").Call(ctx, Burst{}, nil); !errors.Is(err, dserver.ErrFault) {
			t.Fatal(err)
		}
		stop()
		s := ledgers.At(here, "x")
		must(t, s.Retry(ctx, letters(t, s)[0]))
		if q := waiting(t, s)[0]; q.Call || q.Message.Name != "Burst" {
			t.Errorf("%+v", q)
		}
	})
}

// Operators race each other for each letter, while a consumer handles what they retry.
func TestLettersAreTakenOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := ledgers.At(db, "x")
		const count, operators = 40, 4
		for range count {
			must(t, s.Cast(ctx, Refusal{}))
		}
		start(t, db, ledgers)
		eventually(t, "all are set aside", func() bool { return statusOf(t, s).DeadLetters == count })
		var retried, discarded atomic.Int64
		var all sync.WaitGroup
		found := letters(t, s)
		for i := range operators {
			mine := ledgers.At(open(), "x")
			all.Go(func() {
				for n, d := range found {
					taken, verb := &retried, func() error { return mine.Retry(ctx, d) }
					if (i+n)%2 == 0 {
						taken, verb = &discarded, func() error { return mine.Discard(ctx, d) }
					}
					d.Message = dserver.Message{Name: "Note", Body: []byte{0xa1, 0x61, 'N', 0x01}}
					switch err := verb(); {
					case err == nil:
						taken.Add(1)
					case !errors.Is(err, dserver.ErrNotFound):
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if retried.Load()+discarded.Load() != count {
			t.Errorf("%d retried and %d discarded, of %d", retried.Load(), discarded.Load(), count)
		}
		if handled := seenAfter(t, ctx, s); int64(len(handled)) != retried.Load() {
			t.Errorf("%d handled, %d retried", len(handled), retried.Load())
		}
	})
}
