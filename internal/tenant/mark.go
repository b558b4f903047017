package tenant

import (
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// SetReady makes consumers look at a server.
func SetReady(tx backend.Tx, r Ref) {
	tx.Set(ReadyMark(r), nil)
	tx.Add(Bell(ShardOf(r)), 1)
}

// ClearReady removes what leads consumers to a server that is not pinned.
func ClearReady(tx backend.Tx, r Ref) {
	tx.Clear(ReadyServer(r).Tree())
	tx.Clear(ParkedRow(r, "").Only())
}

// Claim is a claim as it is stored. Its field names are part of the stored format.
type Claim struct {
	Stamp [12]byte `cbor:"stamp"`          // the one message that is begun; zero: any of the queue
	Last  bool     `cbor:"last,omitempty"` // it was begun when all claimants before were known to be dead or to live
}

// IsOfQueue reports whether it is of any message of the queue.
func (c Claim) IsOfQueue() bool { return c.Stamp == [12]byte{} }

// Names reports whether it is of this message.
func (c Claim) Names(item queue.Item) bool { return c.Stamp == item.Stamp }

// ClaimOf tells whose claim a key is, and of which server.
func ClaimOf(key backend.Key) (ref Ref, process string, ok bool) {
	elements, err := key.Elements()
	if err != nil || len(elements) != 6 || elements[0] != KeyReady || elements[4] != keyClaim {
		return ref, "", false
	}
	typ, isType := elements[2].(string)
	id, isID := elements[3].(string)
	process, isProcess := elements[5].(string)
	return Ref{typ, id}, process, isType && isID && isProcess
}

// ParseMark finds the server of a ready mark among the rows of a shard. A claim, which stands among them, is no mark. Its
// error is backend.ErrCorrupt.
func ParseMark(shard, key backend.Key) (ref Ref, isMark bool, err error) {
	ref, rest, ok := parseRow(shard, key)
	switch {
	case ok && len(rest) > 0 && rest[0] == keyClaim:
		return ref, false, nil
	case ok && len(rest) == 1 && rest[0] == KeyMark:
		return ref, true, nil
	}
	return ref, false, fmt.Errorf("%w: the ready mark %v", backend.ErrCorrupt, key)
}

// ParseParked finds the server of a row in the index of those that wait. Its error is backend.ErrCorrupt.
func ParseParked(shard, key backend.Key) (Ref, error) {
	ref, rest, ok := parseRow(shard, key)
	if !ok || len(rest) > 0 {
		return ref, fmt.Errorf("%w: the row %v in the index of servers that wait", backend.ErrCorrupt, key)
	}
	return ref, nil
}

// parseRow reads a key of a type and an id below prefix, and what follows them.
func parseRow(prefix, key backend.Key) (ref Ref, rest []any, ok bool) {
	suffix, _ := key.CutPrefix(prefix)
	elements, err := suffix.Elements()
	if err != nil || len(elements) < 2 {
		return ref, nil, false
	}
	typ, isType := elements[0].(string)
	id, isID := elements[1].(string)
	return Ref{typ, id}, elements[2:], isType && isID
}

// ParseClaim reads a claim of a server, and whose it is. One of an older form names nobody who could be asked for.
func ParseClaim(ref Ref, pair backend.KeyValue) (c Claim, process string, ok bool) {
	rest, _ := pair.Key.CutPrefix(ReadyClaims(ref))
	elements, err := rest.Elements()
	if err != nil || len(elements) != 1 {
		return c, "", false
	}
	process, ok = elements[0].(string)
	return c, process, ok && DecodeRecord(pair.Value, &c) == nil
}
