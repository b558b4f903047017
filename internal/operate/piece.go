package operate

import (
	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// An export is a sequence of CBOR items (RFC 8742), each a map, a piece. docs/export.md describes them: the names of the fields
// here are part of the format.
//
//	{format, version, at}              once, at the beginning
//	{server}                           a server, without what follows in pieces of its own, in this order
//	{letters} {messages} {state} {timers} {delayed} {once}
//	{end}                              of the server: how many pieces came after its first
//	{servers}                          once, at the end: how many there are
type piece struct {
	Format  string `cbor:"format,omitempty"`
	Version int    `cbor:"version,omitempty"`
	At      int64  `cbor:"at,omitempty"` // Unix milliseconds

	Server   *portable        `cbor:"server,omitempty"`
	Letters  []portableLetter `cbor:"letters,omitempty"`
	Messages []portableItem   `cbor:"messages,omitempty"`
	State    []portableRow    `cbor:"state,omitempty"`
	Timers   []portableRecord `cbor:"timers,omitempty"`
	Once     []portableRecord `cbor:"once,omitempty"`
	Delayed  []portableSend   `cbor:"delayed,omitempty"`
	End      *int             `cbor:"end,omitempty"`

	Servers *int `cbor:"servers,omitempty"`
}

const (
	exportFormat  = "dserver"
	exportVersion = 1
)

// portable is a server but for what it has any number of. Stamps are those of the store that it comes from: they say which
// message is meant, and are others where it is imported.
type portable struct {
	Type     string             `cbor:"type"`
	ID       string             `cbor:"id"`
	HasState bool               `cbor:"has_state,omitempty"`
	Meta     tenant.Meta        `cbor:"meta"`
	Pin      *string            `cbor:"pin,omitempty"`    // the label
	Paused   *tenant.Paused     `cbor:"paused,omitempty"` // by an operator
	Lock     *tenant.LockRecord `cbor:"lock,omitempty"`
	Locked   []byte             `cbor:"locked,omitempty"` // the message that it was taken for
	Attempts []portableAttempts `cbor:"attempts,omitempty"`
	Failed   *tenant.Failure    `cbor:"failed,omitempty"` // of locked work
}

func (p *portable) ref() tenant.Ref { return tenant.Ref{Type: p.Type, ID: p.ID} }

// portableAttempts is what is counted of the first message of a lane.
type portableAttempts struct {
	Lane int             `cbor:"lane"`
	Of   tenant.Attempts `cbor:"of"`
	Why  tenant.Failure  `cbor:"why"`

	isThere bool // where it is imported: its message is
}

// portableItem is a message that waits. The order is that of the lane.
type portableItem struct {
	Lane  int      `cbor:"lane"`
	Stamp [12]byte `cbor:"stamp"`
	Item  []byte   `cbor:"item"`
}

// portableLetter is a dead letter.
type portableLetter struct {
	Stamp  [12]byte      `cbor:"stamp"`
	Letter tenant.Letter `cbor:"letter"`
}

// portableRow is a row of a state. Its key begins after that of the state.
type portableRow struct {
	Key   backend.Key `cbor:"key"`
	Value []byte      `cbor:"value"`
}

// portableRecord is the record of a timer or of an idempotency key, which the library writes as it is.
type portableRecord struct {
	Name   string `cbor:"name"`
	Record []byte `cbor:"record"`
}

// portableSend is messages that were sent with After.
type portableSend struct {
	Word string         `cbor:"word"`
	Send tenant.Delayed `cbor:"send"`
}

// pieceBytes is how large a piece becomes, but for one thing that is larger, and what is written in one transaction.
const pieceBytes = 256 << 10

// maxPieceRows bounds the rows of a piece.
const maxPieceRows = 500
