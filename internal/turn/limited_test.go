package turn

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A handler's context ends as one with a deadline does, whether somebody waits for it from the beginning, later, or never.
func TestLimitedContextEndsAsOneWithADeadline(t *testing.T) {
	for name, waits := range map[string]bool{"waited for": true, "asked": false} {
		for end, c := range map[string]struct {
			end  func(l *limited, cancel context.CancelFunc)
			want error
		}{
			"its time is up":    {func(*limited, context.CancelFunc) { <-time.After(2 * time.Second) }, context.DeadlineExceeded},
			"its handler ended": {func(l *limited, _ context.CancelFunc) { l.end() }, context.Canceled},
			"its turn ended":    {func(_ *limited, cancel context.CancelFunc) { cancel() }, context.Canceled},
		} {
			t.Run(name+", "+end, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					base, cancel := context.WithCancel(context.Background())
					defer cancel()
					l := &limited{Context: base, until: time.Now().Add(time.Second)}
					defer l.end()
					if until, ok := l.Deadline(); !ok || time.Until(until) != time.Second {
						t.Errorf("the deadline is %v", until)
					}
					if waits {
						_ = l.Done()
					}
					if err := l.Err(); err != nil {
						t.Errorf("it ended with %v before", err)
					}
					c.end(l, cancel)
					synctest.Wait()
					if err := l.Err(); !errors.Is(err, c.want) {
						t.Errorf("it ended with %v, not %v", err, c.want)
					}
					select {
					case <-l.Done():
					default:
						t.Error("who waits now waits on")
					}
				})
			})
		}
	}
}
