package main

import "github.com/dserver-go/dserver/dserver"

// Booth is the state of one show's ticket booth.
type Booth struct {
	Seats int
	Sold  map[int]string // who has which seat
}

// Open says how many seats a show has.
type Open struct{ Seats int }

// Buy asks for a ticket, and is answered with the number of the seat.
type Buy struct {
	dserver.Returns[int]
	Who string
}

// Refund gives a seat back.
type Refund struct {
	Who  string
	Seat int
}

// Errors by which a booth refuses.
var (
	ErrSoldOut   = &dserver.Error{Code: "sold-out", Text: "no tickets left"}
	ErrNotYours  = &dserver.Error{Code: "not-yours", Text: "the seat is somebody else's"}
	ErrWasOpened = &dserver.Error{Code: "opened", Text: "the show has its seats already"}
)

// Booths sell tickets. There is no lock and no counter in a cache: whoever handles the message, wherever, its ticket
// is sold in the commit that answers.
var Booths = dserver.Define("booth",
	dserver.HandleCast(func(_ *dserver.Context, b *Booth, m Open) error {
		if b.Seats != 0 {
			return ErrWasOpened
		}
		b.Seats = m.Seats
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, b *Booth, m Buy) (int, error) {
		for seat := 1; seat <= b.Seats; seat++ {
			if _, sold := b.Sold[seat]; !sold {
				b.Sold[seat] = m.Who
				return seat, nil
			}
		}
		return 0, ErrSoldOut
	}),
	dserver.HandleCast(func(_ *dserver.Context, b *Booth, m Refund) error {
		if b.Sold[m.Seat] != m.Who {
			return ErrNotYours
		}
		delete(b.Sold, m.Seat)
		return nil
	}),
)
