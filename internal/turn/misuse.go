package turn

import (
	"context"
	"sync"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/stacks"
)

// misuses logs what handlers ask of a Context after its turn, once for each place in the program that does: a goroutine
// that kept the Context would otherwise believe that it had sent something. A panic would end its process, which is worse
// than the mistake.
type misuses struct {
	log  zerolog.Logger
	seen sync.Map // places -> nothing
}

// ForHandlers is the context of the handlers of a consumer.
func ForHandlers(base context.Context, log zerolog.Logger) context.Context {
	return context.WithValue(base, turnKey{}, &misuses{log: log})
}

// late notes that a Context was used when its turn was over.
func (s *Scope) late() {
	m, ok := s.turn.Value(turnKey{}).(*misuses)
	if !ok {
		return // a Query's, of which nothing would come in its time either
	}
	function, place := stacks.Caller()
	if _, known := m.seen.LoadOrStore(place, nil); !known {
		m.log.Error().Stringer(logs.Server, s.self).Str(logs.Function, function).Str(logs.Place, place).
			Msg("a Context was used after its handler's turn: what it was asked for does not happen")
	}
}
