package main

import (
	"context"
	"errors"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/statediff"
)

// Person is somebody in a room. How far they have heard is theirs to know, so nothing is lost on those who were away, or
// whose answer went astray: they ask again from there.
type Person struct {
	Name  string
	room  *dserver.DServer[Room]
	heard statediff.Place
}

// Join enters the room. The person hears what is said after the place.
func (p *Person) Join(ctx context.Context) error { return p.room.Call(ctx, Join{p.Name}, nil) }

// Say says something. When it returns, everybody will hear it.
func (p *Person) Say(ctx context.Context, text string) (statediff.Place, error) {
	return dserver.Call(ctx, p.room, Say{Who: p.Name, Text: text})
}

// Hear waits until somebody says something, the person too, and returns what was not heard before.
func (p *Person) Hear(ctx context.Context) ([]Line, error) {
	for {
		news, err := p.ask(ctx)
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		case err != nil:
			return nil, err
		case len(news.Lines) > 0:
			p.heard = news.To
			return news.Lines, nil
		}
	}
}

func (p *Person) ask(ctx context.Context) (News, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()
	return dserver.Call(ctx, p.room, Next{After: p.heard})
}
