// Package dserver runs durable servers: a mailbox and a state, both kept in a strictly serializable store, and handlers
// that turn one into the other.
//
//	 any process                 the store                       a process that consumes
//	                   ┌─────────────────────────────┐
//	visits.Cast ──────>│ queue of counter/visits     │<────── 1  take a batch of messages
//	visits.Call ──┐    │   Increment, Increment, ... │
//	              │    │ state of counter/visits     │<────── 2  run their handlers on the state
//	              │    │   Count = 41                │
//	              │    │ queues of other servers     │<────── 3  ONE commit: messages removed, changed fields,
//	              │    │ mailbox of the caller       │           new version, replies, messages to other servers
//	              │    └──────────────┬──────────────┘
//	       answer <───────────────────┘                        4  AfterCommit functions
//
// # What to write
//
// A server is defined by the Go type of its state and by a handler for each type of message ([Define], [HandleCast],
// [HandleCall]). A message that embeds [Returns] is a request. [Definition.At] gives a handle, [DServer], to the server
// of some id: a value without a process, that does nothing until it is used. Servers need not be created: one that has
// handled nothing yet has an empty state.
//
// A process that calls [Run] consumes: it takes the messages of all servers of the types that it is given. Any number
// of processes may, for the same types, and none of them owns a server: the store's transaction alone decides whose
// turn counts. A process that only sends needs no consumer of its own.
//
// # What it promises
//
// When Cast returns nil, the message is durable and will take effect once. When Call returns, its effect and its answer
// are durable. Whatever was acknowledged to anyone before another message to the same server was sent is handled first.
// A message's whole effect is one transaction ("a turn"): the message removed, the state's changed fields, the reply and
// the messages to other servers happen together, once or not at all, whoever dies at whatever moment.
//
// When caller and consumer share a process and nothing is queued, a message joins the turn without being written to
// the queue first: then it costs one commit instead of three. Nothing but the speed differs, with one exception: a call
// that breaks there is answered after its first attempt.
//
// # In a handler
//
// A handler gets the current state, which is its own to change, and a [Context]. It may run more than once for one
// message, if its transaction lost a race; only one run counts. So it touches nothing but its state and its Context: no
// network, no files, no handle. What it sends by [Context.Cast] is part of the commit; what it registers by
// [Context.AfterCommit] runs after it, at most once. Its time limit is 4 seconds, or
// less by [Settings].HandlerLimit.
//
// An error that a handler returns is a decision, and is not tried again. A fault, such as a panic, is tried again:
//
//	the handler                  state and sends    a call's caller gets       a cast becomes
//	returns nil                  committed          the reply                  -
//	returns err                  rolled back        err, as *Error             a dead letter
//	returns Keep(err)            committed          err, as *Error             a dead letter
//	panics, overruns, cannot     rolled back;       ErrFault, after            a dead letter, after
//	be decoded                   tried again with   MaxAttempts                MaxAttempts
//	                             back-off
//	nobody living has one        -                  ErrFault, after            a dead letter, after
//	                                                NoHandlerWait              NoHandlerWait
//	work returns an *Error       rolled back        it                         a dead letter
//	work ends otherwise          tried again,       ErrFault, after            a dead letter, after
//	                             still locked       MaxAttempts                MaxAttempts
//	apply returns err            rolled back        err, as *Error             a dead letter
//	another handler ends work    -                  err, as *Error             a dead letter
//	by Unlock(err)
//
// (Work and apply are those of locked work, below.)
//
// A dead letter is a message that was set aside: taken off the queue and kept beside it, with the reason. So nothing is
// dropped, and the queue goes on. Operators list dead letters, and retry, edit or discard them ([DServer.DeadLetters],
// [DServer.Retry]). They see, withdraw and mend messages that wait ([DServer.Queue], [DServer.Withdraw], [DServer.Mend]), stop a
// server for a while ([DServer.Pause]), set its state ([DServer.SetState]), and end it ([DServer.Reset], [DServer.Kill]). Command dserver does the same without the program's types.
//
// A queue has no bound unless its type has Settings.MaxQueued: then a send to a queue that is full is [ErrQueueFull], and a
// producer waits and tries again (backpressure). What handlers send is never refused, nor what was acknowledged before.
// [DServer.Status] tells how long a queue is.
//
// A program reads a server's state, or asks a handler that only reads, past the queue ([DServer.State], [Query]); and it is
// told of each change, now and from then on, by a loop ([DServer.Follow], [FollowQuery]): a page that is live, a cache, a
// process that waits for something.
//
// What a program may ask for beside that:
//
//   - [Context.Exec] changes tables of the program's own in the commit of the turn, on SQLite and PostgreSQL.
//   - [Header] gives a message string pairs that travel with it, and with all that is sent because of it.
//   - [Intercept] runs functions of the program around all sends, handlers and locked work, as for traces and access rules.
//   - [Once] gives a message an idempotency key, [After] delays it, [Priority] sends it ahead of the others.
//   - [Context.SetTimer] sends a message to the server itself, later; with Priority it is handled while the server is
//     locked, too. [Context.CancelTimer] stops the timer.
//   - [ReplyLater] keeps a call open, and [From.Reply] answers it from a later turn.
//   - [HandleInfo] and [DServer.Info] handle a message that is not stored (at most once), without waiting for the queue
//     or a lock.
//   - [Init] prepares the state of a new server, [Upgrade] reads one of an older form.
//
// # Requests to other systems
//
// A request to another system, as to a payment provider, does not belong in a handler, which may run again.
// [HandleLocked] takes the message off the queue, locks the server, and runs a function of yours, the work, outside of
// any transaction, with a copy of the state. Then a second function, apply, gets what work returned and the state as it
// then is, in the commit that also unlocks and answers. While the server is locked, its messages wait, except those with
// Priority and info. The lock is a lease: when its holder dies, another consumer takes the lock over. A fencing token
// refuses the result of a holder that lost its lock.
//
// After an error, a panic, Settings.WorkLimit or the death of its process, work runs again, with the same
// [LockedContext.IdempotencyKey], by which the other system can tell that it is the same request. Most errors of work
// are failures of the network or of the other system, so only an [*Error] is a decision. After MaxAttempts the message is
// a dead letter, or with Settings.Halt the server waits for an operator.
//
// Where work as a whole must not take longer than some time, the server itself ends it: the handler that locks sets a
// timer with Priority, whose handler calls [Context.Unlock].
//
// # The wire
//
// A message is its name, which is that of its Go type or what its method MessageName returns, and its CBOR. Fields are
// matched by name: unknown ones are ignored and missing ones are zero, so fields may be added. Before you rename a type,
// give it a MessageName. Messages are encoded when they are sent and replies when the handler returns, also within one
// process: what was passed may be changed afterwards, and nobody shares memory with a state.
//
// # Limits
//
//	a message, a reply                            nearly 4 MiB, and 256 arrays and maps within one another
//	  the lists and maps of one, when it is read  256 MiB of memory
//	all that one turn writes                      9 MB
//	the name of a type, an id                     1 KiB each
//	the headers of a message                      64, keys of 256 bytes, values of 4 KiB, 16 KiB together
//	the time of a turn's handlers                 4 s, or less by Settings.HandlerLimit
//	messages of one turn                          256
//	servers that one consumer handles at a time   128 per CPU, or Consumer.Turns; of one type, Settings.Turns
//	states that a follower sees of one server     100/s, for all followers of a process together
//	messages that wait for one server             no limit, or Settings.MaxQueued, which N senders at once may pass by
//	                                              N - 1 messages, and what must not be refused by any number
//
// # Situation -> test
//
//	the handler refused, with a condition         errors.Is(err, ErrSoldOut): codes are compared, wrapping keeps
//	  of yours                                    the code and adds text
//	the handler refused, with any other error     var e *dserver.Error; errors.As(err, &e); e.Code is "", e.Text the text
//	a statement of Context.Exec failed for good   errors.Is(err, dserver.ErrStatement); one that might have succeeded
//	                                              later and did not, MaxAttempts times, is the next
//	it broke, MaxAttempts times                   errors.Is(err, dserver.ErrFault)
//	no handler for this message; found before     errors.Is(err, dserver.ErrNoHandler)
//	  it is sent, or by Query and Info
//	nobody answered in time                       errors.Is(err, context.DeadlineExceeded), or Canceled; the message
//	                                              was not withdrawn and may have taken effect. If it was sent
//	                                              with Once, it may be sent again. At a deadline the text says
//	                                              when nobody was seen who runs the type
//	ctx ended during the commit of a Cast         errors.Is(err, backend.ErrCommitUnknown), and ctx's error as well;
//	                                              the message may have been sent: as above
//	this process was taken for dead while a       errors.Is(err, dserver.ErrReplyLost); the message may have taken
//	  call waited, or cannot read its answer      effect
//	killed, or taken off the queue by an          errors.Is(err, dserver.ErrKilled), dserver.ErrWithdrawn; the message
//	  operator, while a call waited               took no effect
//	this program cannot read the state            errors.Is(err, dserver.ErrState): it says what to write
//	what an operator changes was changed since    errors.Is(err, dserver.ErrChanged): read it again
//	  it was read (Mend, SetState)
//	Info of a server that an operator paused      errors.Is(err, dserver.ErrPaused)
//	the server has no state; the message or       errors.Is(err, dserver.ErrNotFound)
//	  dead letter is gone
//	a message that is too large                   errors.Is(err, backend.ErrTooLarge); nothing was sent
//	too many messages wait for the server         errors.Is(err, dserver.ErrQueueFull); nothing was sent, and no key of
//	  (Settings.MaxQueued)                        Once was used up: wait a little, and send the same again
//	a message that could not be read again, as    an error with text only; nothing was sent
//	  of a type that loses something
//	the database was closed, or ended itself      errors.Is(err, backend.ErrClosed); open it again
//	  after a failed write
//	the stored bytes are damaged                  errors.Is(err, backend.ErrCorrupt); an operator must look
//	a handle used with a handler's context, a     an error with text only: a bug to mend, not to branch on
//	  Query that changes, a nil message, Lock
//	  without HandleLocked
//	a wrong definition, or Run without types      a panic in Define, With or Run, with the places
//	a Context that was kept after its handler     nothing happens, and the consumer logs the place
package dserver
