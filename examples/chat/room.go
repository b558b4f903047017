package main

import (
	"slices"
	"time"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/statediff"
)

// Room is the state of a room. What was said, and who has joined, is loaded only where a handler asks for it: a line costs
// the same in a room with a million of them as in a new one.
type Room struct {
	Lines   statediff.List[Line]
	People  statediff.Map[string, int]       // how many lines each of those who joined has said
	Waiting map[dserver.From[News]]time.Time // who waits for the next line, and since when
}

// Line is what somebody said.
type Line struct{ Who, Text string }

// News is lines, and the place of the last one, after which somebody who has heard them asks for more.
type News struct {
	Lines []Line
	To    statediff.Place
}

// Join brings somebody into the room. Who is there already may join again.
type Join struct{ Who string }

// Say says something. It returns the place of the line.
type Say struct {
	dserver.Returns[statediff.Place]
	Who, Text string
}

// Last asks for the last N lines, at most mostLines. A Query reads them past those who talk.
type Last struct {
	dserver.Returns[News]
	N int
}

// Next asks for what was said after a place, in the order in which it was said; "" is the beginning. When there is
// nothing, the answer comes with the next line. An answer without lines means: ask again.
type Next struct {
	dserver.Returns[News]
	After statediff.Place
}

// Count asks how many lines there are.
type Count struct{ dserver.Returns[int] }

// What an answer holds must not grow without limit, as it is one message.
const (
	longestName = 100 // bytes
	longestText = 4000
	mostLines   = 500 // of one answer
)

// Somebody who waits asks again after each pollTime. Who does not is gone: nobody tells the room of those who died.
const (
	pollTime = 20 * time.Second
	patience = time.Minute
)

// Errors by which a room refuses.
var (
	ErrName     = &dserver.Error{Code: "name", Text: "a name has 1 to 100 bytes"}
	ErrTooLong  = &dserver.Error{Code: "too-long", Text: "a line has at most 4000 bytes"}
	ErrStranger = &dserver.Error{Code: "stranger", Text: "join before you say something"}
)

// Rooms keep what was said, and tell those who wait.
var Rooms = dserver.Define("room",
	dserver.HandleCast(func(_ *dserver.Context, r *Room, m Join) error {
		if m.Who == "" || len(m.Who) > longestName {
			return ErrName
		}
		if _, joined := r.People.Get(m.Who); !joined {
			r.People.Set(m.Who, 0)
		}
		return nil
	}),
	dserver.HandleCall(func(ctx *dserver.Context, r *Room, m Say) (statediff.Place, error) {
		said, joined := r.People.Get(m.Who)
		switch {
		case !joined:
			return "", ErrStranger
		case len(m.Text) > longestText:
			return "", ErrTooLong
		}
		r.People.Set(m.Who, said+1)
		line := Line{m.Who, m.Text}
		place := r.Lines.Append(line)
		for from := range r.Waiting { // they have heard all that was said before
			from.Reply(ctx, News{[]Line{line}, place})
		}
		clear(r.Waiting)
		return place, nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, r *Room, m Last) (News, error) { return r.last(m.N), nil }),
	dserver.HandleCall(func(ctx *dserver.Context, r *Room, m Next) (News, error) {
		if news := r.after(m.After); len(news.Lines) > 0 {
			return news, nil
		}
		now := time.Now()
		r.forget(ctx, now.Add(-patience))
		if from := dserver.ReplyLater(ctx, m); from != "" {
			r.Waiting[from] = now
		}
		return News{}, nil // nobody gets this: Say answers
	}),
	dserver.HandleCall(func(_ *dserver.Context, r *Room, _ Count) (int, error) { return r.Lines.Len(), nil }),
)

// last is the last n lines. It loads these and a few more, from the end.
func (r *Room) last(n int) (news News) {
	n = min(n, mostLines)
	for place, line := range r.Lines.Backward("") {
		if news.To == "" {
			news.To = place
		}
		if len(news.Lines) >= n {
			break
		}
		news.Lines = append(news.Lines, line)
	}
	slices.Reverse(news.Lines)
	return news
}

// after is what was said after a place.
func (r *Room) after(heard statediff.Place) (news News) {
	for place, line := range r.Lines.All(heard) {
		if place == heard {
			continue
		}
		news.Lines, news.To = append(news.Lines, line), place
		if len(news.Lines) == mostLines {
			break
		}
	}
	return news
}

// forget drops those who wait since before a time. One who is there after all asks again.
func (r *Room) forget(ctx *dserver.Context, before time.Time) {
	for from, since := range r.Waiting {
		if since.Before(before) {
			from.Reply(ctx, News{})
			delete(r.Waiting, from)
		}
	}
}
