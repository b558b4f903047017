package operate

import (
	"context"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Timer is a timer that a server has set for itself.
type Timer struct {
	Name     string
	Due      time.Time
	Priority bool
	Message  tenant.Message // without a Name when it cannot be read: then Body is all that is stored
}

// Timers yields the timers that are set, in the order of their names. It reads page by page.
func (s Server) Timers(ctx context.Context) iter.Seq2[Timer, error] {
	keys := tenant.KeysOf(s.Ref)
	return func(yield func(Timer, error) bool) {
		var values []tenant.LargeRead
		var found []Timer
		read := func(tx backend.Reader, page []string) error {
			values, found = values[:0], found[:0]
			for _, name := range page {
				values = append(values, keys.ReadTimer(tx, name))
			}
			for i, name := range page {
				value, err := values[i].Get()
				if err != nil {
					return err
				}
				found = append(found, timerOf(name, value))
			}
			return nil
		}
		err := eachPage(ctx, s.DB, keys.Timers(), read, func([]string) bool {
			for _, t := range found {
				if !yield(t, nil) {
					return false
				}
			}
			return true
		})
		if err != nil {
			yield(Timer{}, err)
		}
	}
}

func timerOf(name string, value []byte) Timer {
	var r tenant.TimerRecord
	if tenant.DecodeRecord(value, &r) != nil {
		return Timer{Name: name, Message: tenant.Message{Body: value}}
	}
	m, _ := tenant.Readable(r.Item)
	return Timer{Name: name, Due: time.UnixMilli(r.At), Priority: r.Priority, Message: m}
}
