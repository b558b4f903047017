package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
	"github.com/dserver-go/dserver/examples/internal/child"
	"github.com/dserver-go/dserver/internal/dbtest"
)

func TestMain(m *testing.M) {
	child.Main(m, map[string]child.Role{
		"chat": func(ctx context.Context, args []string, out io.Writer) error { return run(ctx, args, os.Stdin, out) },
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// texts are what lines say, in one string.
func texts(lines []Line) string {
	var all []string
	for _, line := range lines {
		all = append(all, line.Text)
	}
	return strings.Join(all, " ")
}

// Bob hears both lines, in their order, once and at once, whether he asks before the first, between them or after the
// second.
func TestEachOrderOfTalkingAndListening(t *testing.T) {
	heard := map[string]int{}
	dservertest.EachOrder(t, func(t *testing.T, o *dservertest.Order) {
		room := Rooms.At(o.Start(Rooms), "lobby")
		must(t, room.Cast(t.Context(), Join{"ada"}))
		o.Drain()
		ada, bob := &Person{Name: "ada", room: room}, &Person{Name: "bob", room: room}
		o.Go("ada", func(ctx context.Context) error {
			_, err := ada.Say(ctx, "one")
			if err == nil {
				_, err = ada.Say(ctx, "two")
			}
			return err
		})
		times, began := "", time.Now()
		o.Go("bob", func(ctx context.Context) error {
			for n := 0; n < 2; {
				lines, err := bob.Hear(ctx)
				if err != nil {
					return err
				}
				n += len(lines)
				times += "(" + texts(lines) + ")"
			}
			return nil
		})
		o.Run()
		heard[times]++
		if took := time.Since(began); took != 0 {
			t.Errorf("a line was heard %v later", took)
		}
		s, err := room.State(t.Context())
		if err != nil || len(s.Waiting) != 0 || s.Lines.Len() != 2 {
			t.Errorf("%d lines, and %d still wait, %v", s.Lines.Len(), len(s.Waiting), err)
		}
	})
	if len(heard) != 2 || heard["(one)(two)"] == 0 || heard["(one two)"] == 0 {
		t.Errorf("bob heard %v", heard)
	}
}

// Whatever fails at whatever commit: what was said is in the room once, and Bob hears it once.
func TestEachFaultLosesAndRepeatsNoLine(t *testing.T) {
	lines := []string{"one", "two", "three"}
	dservertest.EachFault(t, func(t *testing.T, f *dservertest.Faults) {
		f.Start(Rooms)
		do := func(fn func(ctx context.Context, room *dserver.DServer[Room]) error) {
			must(t, f.Do(func(ctx context.Context, db backend.Database) error { return fn(ctx, Rooms.At(db, "lobby")) }))
		}
		do(func(ctx context.Context, room *dserver.DServer[Room]) error { return room.Call(ctx, Join{"ada"}, nil) })
		heard := make(chan []Line, 1)
		go func() {
			var all []Line
			bob := Person{Name: "bob"}
			for len(all) < len(lines) {
				_ = f.Do(func(ctx context.Context, db backend.Database) error {
					bob.room = Rooms.At(db, "lobby")
					more, err := bob.Hear(ctx)
					all = append(all, more...)
					return err
				})
			}
			heard <- all
		}()
		for _, text := range lines {
			do(func(ctx context.Context, room *dserver.DServer[Room]) error {
				return room.Call(ctx, Say{Who: "ada", Text: text}, nil, dserver.Once(text))
			})
		}
		if got := texts(<-heard); got != "one two three" {
			t.Errorf("%v: bob heard %q", f, got)
		}
		do(func(ctx context.Context, room *dserver.DServer[Room]) error {
			news, err := dserver.Query(ctx, room, Last{N: 10})
			if got := texts(news.Lines); err == nil && got != "one two three" {
				t.Errorf("%v: the room has %q", f, got)
			}
			return err
		})
	})
}

func TestThoseWhoHaveGoneAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := Rooms.At(dservertest.Start(t, Rooms), "lobby")
		waiting := func() int {
			s, err := room.State(t.Context())
			must(t, err)
			return len(s.Waiting)
		}
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := dserver.Call(ctx, room, Next{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a line that nobody said: %v", err)
			}
			cancel()
		}
		if n := waiting(); n != 3 {
			t.Errorf("%d wait", n)
		}
		<-time.After(patience)
		ended := make(chan error)
		go func() { // and one who stays for long
			bob := Person{Name: "bob", room: room}
			lines, err := bob.Hear(t.Context())
			if texts(lines) != "at last" {
				t.Errorf("after long silence bob heard %v", lines)
			}
			ended <- err
		}()
		synctest.Wait()
		if n := waiting(); n != 1 {
			t.Errorf("%d wait, of whom one is there", n)
		}
		<-time.After(time.Hour)
		if n, most := waiting(), int(patience/pollTime)+1; n > most {
			t.Errorf("%d wait after an hour with one who asks again and again, at most %d are remembered", n, most)
		}
		must(t, room.Call(t.Context(), Join{"ada"}, nil))
		must(t, room.Call(t.Context(), Say{Who: "ada", Text: "at last"}, nil))
		must(t, <-ended)
		if n := waiting(); n != 0 {
			t.Errorf("%d wait after a line", n)
		}
	})
}

func TestLastAndNextAreBounded(t *testing.T) {
	room := Rooms.At(dservertest.Start(t, Rooms), "lobby")
	ctx := t.Context()
	if news, err := dserver.Query(ctx, room, Last{N: 10}); len(news.Lines) != 0 || news.To != "" || err != nil {
		t.Errorf("a room that nobody has entered has %v, %v", news, err)
	}
	must(t, room.Call(ctx, Join{"ada"}, nil))
	must(t, room.Call(ctx, Join{"ada"}, nil))
	const lines = mostLines + 20
	var all []any
	for i := range lines {
		all = append(all, Say{Who: "ada", Text: fmt.Sprint(i)})
	}
	must(t, room.CastAll(ctx, all))
	if n, err := dserver.Call(ctx, room, Count{}); n != lines || err != nil {
		t.Errorf("it has %d lines, %v", n, err)
	}
	for n, want := range map[int]int{-1: 0, 0: 0, 3: 3, 1 << 20: mostLines} {
		news, err := dserver.Query(ctx, room, Last{N: n})
		if err != nil || len(news.Lines) != want || want > 0 && news.Lines[want-1].Text != fmt.Sprint(lines-1) {
			t.Errorf("of the last %d lines it returned %d, %v", n, len(news.Lines), err)
		}
	}
	bob := Person{Name: "bob", room: room}
	first, err := bob.Hear(ctx)
	must(t, err)
	second, err := bob.Hear(ctx)
	must(t, err)
	if got := slices.Concat(first, second); len(first) != mostLines || len(got) != lines || got[lines-1].Text != fmt.Sprint(lines-1) {
		t.Errorf("who comes late hears %d and then %d lines", len(first), len(second))
	}
	if s, err := room.State(ctx); err != nil || s.People.Len() != 1 {
		t.Errorf("%d people, %v", s.People.Len(), err)
	} else if n, _ := s.People.Get("ada"); n != lines {
		t.Errorf("ada said %d lines", n)
	}
}

func TestARoomRefuses(t *testing.T) {
	room := Rooms.At(dservertest.Start(t, Rooms), "lobby")
	must(t, room.Call(t.Context(), Join{"ada"}, nil))
	for _, c := range []struct {
		message any
		want    error
	}{
		{Join{""}, ErrName},
		{Join{strings.Repeat("x", longestName+1)}, ErrName},
		{Say{Who: "bob", Text: "hello"}, ErrStranger},
		{Say{Who: "ada", Text: strings.Repeat("x", longestText+1)}, ErrTooLong},
		{Say{Who: "ada", Text: strings.Repeat("x", longestText)}, nil},
	} {
		if err := room.Call(t.Context(), c.message, nil); !errors.Is(err, c.want) {
			t.Errorf("%.40v: %v, not %v", c.message, err, c.want)
		}
	}
	if n, err := dserver.Call(t.Context(), room, Count{}); n != 1 || err != nil {
		t.Errorf("it has %d lines, %v", n, err)
	}
}

// chat runs the program on a database and returns what it printed.
func chat(t *testing.T, database, input string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), append([]string{"-db", database}, args...), strings.NewReader(input), &out); err != nil {
		t.Fatalf("chat %s: %v", strings.Join(args, " "), err)
	}
	return out.String()
}

func TestTwoTalkAtOnceAndHearTheSame(t *testing.T) {
	database := dbtest.Name(t)
	for i, want := range []string{
		"80 lines were said, and both heard the same; lobby has 80 now\n",
		"80 lines were said, and both heard the same; lobby has 160 now\n",
	} {
		if got := chat(t, database, "", "-n", "40", "-last", "0"); got != want {
			t.Fatalf("run %d printed %q, not %q", i+1, got, want)
		}
	}
}

func TestWhatWasSaidIsReadLater(t *testing.T) {
	database := dbtest.Name(t)
	if got, want := chat(t, database, "hello\nwho is there?\n", "-who", "eve"), "eve: hello\neve: who is there?\n"; got != want {
		t.Errorf("eve reads %q, not %q", got, want)
	}
	if got, want := chat(t, database, "me\n", "-who", "max", "-last", "1"), "eve: who is there?\nmax: me\n"; got != want {
		t.Errorf("max reads %q, not %q", got, want)
	}
	if got, want := chat(t, database, "", "-read", "-last", "2"), "eve: who is there?\nmax: me\n"; got != want {
		t.Errorf("it has %q, not %q", got, want)
	}
	if got := chat(t, database, "", "-read", "-room", "cellar"); got != "" {
		t.Errorf("another room has %q", got)
	}
}

// Two programs: one waits for the next line, in the other one somebody says it.
func TestALineOfAnotherProcessIsHeard(t *testing.T) {
	database := dbtest.Name(t)
	server := child.Start(t, "chat", "-db", database, "-serve")
	server.Expect()
	input, keyboard := io.Pipe()
	output, screen := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(t.Context(), []string{"-db", database, "-who", "max", "-consume=false"}, input, screen)
		screen.Close()
		ended <- err
	}()
	if _, err := io.WriteString(keyboard, "anybody?\n"); err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if n, err := io.ReadFull(output, got); err != nil || string(got) != want {
			t.Fatalf("max reads %q, not %q, %v", got[:n], want, err)
		}
	}
	expect("max: anybody?\n")
	if got, want := chat(t, database, "me\n", "-who", "eve", "-consume=false"), "max: anybody?\neve: me\n"; got != want {
		t.Errorf("eve reads %q, not %q", got, want)
	}
	expect("eve: me\n")
	keyboard.Close()
	must(t, <-ended)
	server.Finish()
}

func TestInterruptedChatEndsWithoutAnError(t *testing.T) {
	database := dbtest.Name(t)
	ctx, interrupt := context.WithCancel(t.Context())
	output, screen := io.Pipe()
	input, keyboard := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"-db", database, "-who", "max"}, input, screen) }()
	if _, err := io.WriteString(keyboard, "anybody?\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := output.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	interrupt()
	must(t, <-ended)
	keyboard.Close()
}
