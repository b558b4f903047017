package main

import (
	"time"

	"github.com/alecthomas/kong"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// commandLine is what can be written on it.
type commandLine struct {
	DB    string `env:"DSERVER_DB" placeholder:"NAME" help:"The database: FILE, sqlite:FILE or fdb:CLUSTERFILE?dir=NAME."`
	JSON  bool   `help:"Print JSON: one object per line."`
	Color string `enum:"auto,always,never" default:"auto" help:"Whether what needs a person is red: auto, at a terminal without NO_COLOR; always; never." placeholder:"WHEN"`
	As    text   `env:"DSERVER_ACTOR" placeholder:"NAME" help:"Who does this, for what audit lists; user@host if it is not given."`

	Version kong.VersionFlag `help:"Print the version."`

	Ls      lsCommand      `cmd:"" help:"List the servers, of one type or of all."`
	Top     topCommand     `cmd:"" help:"Watch the servers with the longest queues."`
	Stats   statsCommand   `cmd:"" help:"Count servers, messages and troubles, by type."`
	Status  statusCommand  `cmd:"" help:"Tell how a server is."`
	State   stateCommand   `cmd:"" help:"Print a server's state, or a place in it; state set changes one."`
	Queue   queueCommand   `cmd:"" help:"List the messages that wait, in the order in which they will be handled."`
	Later   laterCommand   `cmd:"" help:"List what was sent to a server with After and is not due yet, each with its id."`
	Dead    deadCommand    `cmd:"" help:"List the messages of a server that were set aside, oldest first; --all lists those of all servers."`
	Timers  timersCommand  `cmd:"" help:"List the timers that a server has set."`
	Locks   locksCommand   `cmd:"" help:"List the servers that are locked: for what, since when, and by whom."`
	Show    showCommand    `cmd:"" help:"Print all of a server on one page, or one of its messages, waiting or set aside, whole."`
	Tail    tailCommand    `cmd:"" help:"Print what becomes of a server's messages, or of a type's, as it happens, until it is interrupted."`
	Message messageCommand `cmd:"" help:"Print a message, waiting or set aside, whole."`

	Delete deleteCommand `cmd:"" aliases:"withdraw" help:"Delete a message that waits, on the queue or for its time, or all that --message or --all choose. Callers are told."`

	Retry   retryCommand   `cmd:"" help:"Send a message that was set aside again, or all that --code, --message or --all choose."`
	Edit    editCommand    `cmd:"" help:"Change a message that waits, in its place; or one that was set aside, or all that are chosen, and send it again. Without --body and --name in $EDITOR."`
	Discard discardCommand `cmd:"" help:"Remove a message that was set aside, or all that --code, --message or --all choose."`
	Unlock  unlockCommand  `cmd:"" help:"End locked work: its message is set aside, its caller told, its result refused."`
	Pause   pauseCommand   `cmd:"" help:"Stop a server until resume: nothing of it is handled, and what is sent to it waits."`
	Resume  resumeCommand  `cmd:"" help:"Let a server go on that is paused, or has halted: its message has all its attempts again."`
	Pin     pinCommand     `cmd:"" help:"Move a server to the consumers that list a label."`
	Reset   resetCommand   `cmd:"" help:"Forget a server's state; its queue stays."`
	Kill    killCommand    `cmd:"" help:"Remove a server, with its queue. Callers that wait are told."`

	Cast castCommand `cmd:"" help:"Send a message to a server."`
	Call callCommand `cmd:"" help:"Send a message to a server, wait until it has taken effect, and print the answer."`

	Audit     auditCommand     `cmd:"" help:"List what operators did: when, who, to what. The latest is first."`
	Console   consoleCommand   `cmd:"" help:"Serve all of this to a browser, until it is interrupted."`
	Consumers consumersCommand `cmd:"" help:"List the processes that run consumers: where, since when, and what each has in hand."`

	Export     exportCommand     `cmd:"" help:"Write servers to a file, with all that is in flight: one, those of a type, or all."`
	Import     importCommand     `cmd:"" help:"Make the servers of an export, in this database of whatever store. What waits goes on."`
	Completion completionCommand `cmd:"" help:"Print what makes a shell complete commands and flags."`
	Man        manCommand        `cmd:"" help:"Print the manual page, for man."`

	Check  checkCommand  `cmd:"" help:"Compare all that is stored with itself, and list what is wrong, each with what to do."`
	Repair repairCommand `cmd:"" help:"Mend what check finds, where that is safe beside consumers; say what to do about the rest."`
}

// tool is what the commands work with.
type tool struct {
	db   backend.Database
	name string // of the database, as it was given
	out  printer
	ask  func(question string) (yes, asked bool)

	every time.Duration // how often a long command tells how far it is; 0: progressEvery

	actor string // who uses it
}

// server is an argument: type/id.
type server struct{ dserver.Ref }

// UnmarshalText makes a mistake in it one of the command line.
func (s *server) UnmarshalText(text []byte) error {
	name, err := unquoted(string(text))
	if err == nil {
		s.Ref, err = dserver.ParseRef(name)
	}
	return err
}

// String is how it is shown.
func (s server) String() string { return word(s.Ref.String()) }

// stamp is an argument: 24 hexadecimal digits.
type stamp struct{ backend.Versionstamp }

// UnmarshalText makes a mistake in it one of the command line.
func (s *stamp) UnmarshalText(text []byte) (err error) {
	s.Versionstamp, err = backend.ParseVersionstamp(string(text))
	return err
}

// shown is a server that is asked about, and message one of its messages.
type (
	shown struct {
		Server server `arg:"" help:"The server: type/id, or quoted as ls shows it."`
	}
	message struct {
		shown
		Stamp stamp `arg:"" help:"The message's stamp, as queue and dead show it."`
	}
)
