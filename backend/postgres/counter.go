package postgres

import (
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dserver-go/dserver/backend/internal/occ"
)

// sums are the counters that this process has added to, as its last commit left them: what it adds next it can write as
// a value, where the server would have to call a function for each. They are right as long as nobody else commits, and
// dropped with the first doubt. They belong to who leads.
type sums struct {
	known map[string][]byte
	next  map[string][]byte // of the group that is being committed; a nil value is not known any more
	drops bool              // the group clears ranges
}

// maxSums bounds how many are known.
const maxSums = 10_000

// forget drops all.
func (s *sums) forget() { s.known, s.next, s.drops = nil, nil, false }

// begin begins a group.
func (s *sums) begin(group *occ.Record) {
	s.next, s.drops = map[string][]byte{}, false
	for range group.Cleared() {
		s.drops = true
		return
	}
}

// add is the value of a counter after an addition, where it is known.
func (s *sums) add(x *occ.Write) ([]byte, bool) {
	value, isKnown := s.known[string(x.Key)]
	if !isKnown || s.drops {
		return nil, false
	}
	value = occ.Sum(value, x.Delta)
	s.next[string(x.Key)] = value
	return value, true
}

// wrote notes that a key was written in another way.
func (s *sums) wrote(x *occ.Write) {
	if _, isKnown := s.known[string(x.Key)]; isKnown {
		s.next[string(x.Key)] = nil
	}
}

// learn reads what the server made of its additions.
func (s *sums) learn(result *pgconn.ResultReader) {
	for result.NextRow() {
		row := result.Values()
		s.next[string(row[0])] = append([]byte{}, row[1]...)
	}
}

// committed takes over what the group left.
func (s *sums) committed() {
	if s.known == nil || s.drops || len(s.known)+len(s.next) > maxSums {
		s.known = map[string][]byte{}
	}
	for key, value := range s.next {
		if value == nil {
			delete(s.known, key)
		} else {
			s.known[key] = value
		}
	}
}
