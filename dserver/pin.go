package dserver

import (
	"context"

	"github.com/dserver-go/dserver/internal/operate"
)

// Pin moves the server to the consumers that list a label (Consumer.Labels), on the hosts that were chosen for it; "" is not to
// pin it. From the moment that Pin returns, nothing of the server is committed by a consumer that does not list the label.
// Status.Label tells where a server is, and Settings.Label where those of a type begin.
//
// The server may be at work: a turn that runs elsewhere is not committed, and its messages are handled at the new place, in
// their order, once. Locked work is begun again there, with the same IdempotencyKey and without counting an attempt; the
// context of the one that ran ends, and what it finds is refused. Timers, delayed messages, dead letters and idempotency keys
// stay with the server. Senders need not know: messages find it as ever.
//
// A label is UTF-8 of at most 128 bytes, and anybody's: a region, a kind of machine, the name of one host. It need not be listed
// by a consumer yet; then the server's messages wait, Status.Unlisted says so, and a consumer that sees them logs it. Pin stays
// until the next Pin, or Kill: a server that was killed begins anew where its type does. It may be retried, and it does not need
// a server to exist. Info is handled in the process that asks, so it is ErrElsewhere in one without a consumer for the label;
// Query and State only read, and work everywhere.
//
// Consumers of a version of this library before Pin existed know no labels: end them first.
//
// Pinning follows Spawn's and Kubernetes' labels: the operator says which, and not where.
func (s *handle) Pin(ctx context.Context, label string) error {
	return s.change(ctx, "Pin", func(s operate.Server, ctx context.Context) error { return s.Pin(ctx, label) })
}
