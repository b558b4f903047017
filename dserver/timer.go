package dserver

import (
	"errors"
	"time"

	"github.com/dserver-go/dserver/internal/tenant"
)

// SetTimer sends m to this server when d has passed. It replaces the timer of that name. A name has at most 1 KiB.
//
// It inherits the headers of the message in hand (Header). With Priority the message goes ahead of the queue, and is handled while the server is locked. That is for what must
// come in time although locked work is under way, as "the payment takes too long" (Unlock). The other options are
// refused: instead of After a timer has d, and instead of Once its name, under which it fires once each time it is set.
func (c *Context) SetTimer(name string, d time.Duration, m any, opts ...Option) {
	if !c.scope.Usable() {
		return
	}
	how, err := timerOptions(opts)
	if err == nil {
		err = checkTimerName(name)
	}
	if err == nil {
		how.Headers, err = c.inherited(how.Headers)
	}
	var message tenant.Message
	if err == nil {
		message, err = encodeMessage(m)
	}
	if err != nil {
		c.scope.Fail(err)
		return
	}
	if h := hooksOf(c.scope.Hooks()); h != nil {
		c.setTimerThrough(h, name, d, message, how)
		return
	}
	c.scope.SetTimer(name, d, message, how)
}

// timerOptions is options without those that a timer has no use for. A key would have to be taken when the timer is set,
// and would be used up by one that is cancelled.
func timerOptions(opts []Option) (tenant.How, error) {
	how, err := options(opts)
	switch {
	case err != nil:
	case how.After != 0:
		err = errors.New("dserver: SetTimer with After: give SetTimer the time, all of it")
	case how.Once != "":
		err = errors.New("dserver: SetTimer with Once: a timer fires once each time it is set, and setting it again " +
			"replaces it; for a key, Cast with After and Once")
	}
	return how, err
}

// CancelTimer stops a timer: its message will not be handled, even if it is queued already.
func (c *Context) CancelTimer(name string) {
	if c.scope.Usable() {
		c.scope.CancelTimer(name)
	}
}

func checkTimerName(name string) error {
	return tenant.Ref{Type: "timer", ID: name}.Check()
}
