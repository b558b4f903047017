package dserver

import "fmt"

// From is the address of a waiting caller. It is plain data that may be kept in the state or sent to another server.
// "" is nobody: the message was cast. The first answer to a From counts. Later answers, and answers to callers that do
// not wait any more, are dropped, and who answers does not learn of it: a reply is no receipt.
type From[R any] string

// ReplyLater keeps the call open: what the handler returns as reply is dropped, and From answers it, in this turn or
// in any later one on any node. An error that the handler returns still answers at once.
func ReplyLater[R any](ctx *Context, _ Request[R]) From[R] {
	if !ctx.scope.Usable() {
		return ""
	}
	return From[R](ctx.scope.ReplyLater())
}

// Reply answers the caller, as part of this turn's commit.
func (f From[R]) Reply(ctx *Context, v R) {
	if f == "" || !ctx.scope.Usable() {
		return
	}
	reply, err := encodeReply(v)
	if err != nil {
		ctx.scope.Fail(fmt.Errorf("dserver: %w", err))
		return
	}
	ctx.scope.Answer(string(f), reply, nil)
}

// Fail answers the caller with an error, as part of this turn's commit.
func (f From[R]) Fail(ctx *Context, err error) {
	if f != "" && err != nil && ctx.scope.Usable() {
		ctx.scope.Answer(string(f), nil, asError(err))
	}
}
