package telemetry

// Attributes. Those that begin with messaging and error are of OpenTelemetry's semantic conventions for messaging.
const (
	attrSystem      = "messaging.system"
	attrOperation   = "messaging.operation.name"
	attrKind        = "messaging.operation.type"
	attrDestination = "messaging.destination.name" // the type of a server
	attrMessageID   = "messaging.message.id"       // the stamp
	attrCount       = "messaging.batch.message_count"
	attrErrorType   = "error.type"

	attrServer    = "dserver.server.id" // of spans alone
	attrMessage   = "dserver.message.name"
	attrAttempt   = "dserver.attempt"
	attrRun       = "dserver.run"
	attrTimer     = "dserver.timer"
	attrConflicts = "dserver.conflicts"
	attrOutcome   = "dserver.outcome" // ok, refused, faulted, dead, locked
	attrCached    = "dserver.cached"
)

// system is the value of messaging.system.
const system = "dserver"

// Metrics. Prometheus's names have _ for each dot, and the unit: dserver_queue_oldest_seconds, dserver_messages_handled_total.
const (
	nameSent      = "messaging.client.sent.messages"
	nameSending   = "messaging.client.operation.duration"
	nameHandling  = "messaging.process.duration"
	nameHandled   = "dserver.messages.handled"
	nameLatency   = "dserver.messages.latency"
	nameFailed    = "dserver.attempts.failed"
	nameDead      = "dserver.dead_letters.added"
	nameTurns     = "dserver.turns.duration"
	nameBatches   = "dserver.turns.batch"
	nameCommits   = "dserver.turns.commit"
	nameConflicts = "dserver.turns.conflicts"
	nameErrors    = "dserver.turns.errors"
	nameTakeovers = "dserver.locks.taken_over"
	nameLookups   = "dserver.cache.lookups"

	nameQueued     = "dserver.queue.messages"
	nameWaiting    = "dserver.queue.servers"
	nameOldest     = "dserver.queue.oldest"
	nameOverdue    = "dserver.timers.overdue"
	nameInHand     = "dserver.turns.running"
	nameLine       = "dserver.turns.waiting"
	nameLocks      = "dserver.locks.held"
	nameLockAge    = "dserver.locks.oldest"
	nameCached     = "dserver.cache.servers"
	nameCacheBytes = "dserver.cache.size"
	nameWatches    = "dserver.watches"
)

// scope names what makes the spans and the metrics.
const scope = "github.com/dserver-go/dserver/telemetry"
