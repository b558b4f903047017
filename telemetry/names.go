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
)

// system is the value of messaging.system.
const system = "dserver"

// scope names what makes the spans and the metrics.
const scope = "github.com/dserver-go/dserver/telemetry"
