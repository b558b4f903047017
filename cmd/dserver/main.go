// Dserver looks into a database of durable servers, and mends it, while the application runs or not. It knows nothing
// of the application's types: messages and states are readable without them.
//
//	dserver --db counter.db ls
//	dserver --db counter.db queue counter/visits
//	dserver --db counter.db show counter/visits
//	dserver --db counter.db show counter/visits 0000000000000a0100000000
//	dserver --db counter.db edit counter/visits 0000000000000a0100000000
//	dserver --db counter.db state counter/visits
//
// A database is named by its path, or with its kind: sqlite:counter.db, fdb:/etc/foundationdb/fdb.cluster?dir=app. A
// server is named type/id, a message by its stamp, which queue and dead list. With --json, lists are one JSON object
// per line.
//
// The exit code is 0 when it was done, 1 when it could not be done, and 2 when the command line was wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/dserver-go/dserver/dserver"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var line commandLine
	helped := false
	parser, err := kong.New(&line,
		kong.Name("dserver"),
		kong.Description(description),
		kong.Vars{"version": version()},
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }), // kong calls it after it printed the help
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		fmt.Fprintln(stderr, "dserver:", err)
		return exitUsage
	}
	command, err := parser.Parse(args)
	switch {
	case helped:
		return exitDone
	case err != nil:
		fmt.Fprintf(stderr, "dserver: %s; see dserver --help\n", visible(err.Error()))
		return exitUsage
	case line.DB == "" && !isOffline(command):
		fmt.Fprintln(stderr, "dserver: which database? Give --db=NAME, or set DSERVER_DB; see dserver --help")
		return exitUsage
	}
	if err := perform(ctx, command, &line, stdout, stderr); err != nil {
		says := printer{color: isColored(line.Color, stderr)}.shown(bad(strings.TrimPrefix(err.Error(), "dserver: ")))
		fmt.Fprintln(stderr, "dserver:", says)
		return exitFailed
	}
	return exitDone
}

// perform opens the database, runs the command on it and closes it.
func perform(ctx context.Context, command *kong.Context, line *commandLine, stdout, stderr io.Writer) (err error) {
	if isOffline(command) {
		return command.Run(&tool{out: printer{w: stdout, errs: stderr, json: line.JSON}})
	}
	db, err := openDatabase(line.DB)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	actor := line.actor()
	command.BindTo(dserver.WithActor(ctx, actor), (*context.Context)(nil))
	out := printer{stdout, stderr, line.JSON, isColored(line.Color, stdout)}
	if line.isPaged(command.Command()) {
		if p := startPager(stdout); p != nil {
			defer func() { err = p.end(err) }()
			out.w = p
		}
	}
	return command.Run(&tool{db: db, name: line.DB, actor: actor, out: out, ask: askTerminal})
}

// version is that of the module, and of the source that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dserver (unknown)"
	}
	version := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			version += " " + s.Value
		}
	}
	return "dserver " + version + " " + info.GoVersion
}

// actor is who uses the tool.
func (l *commandLine) actor() string {
	if l.As != "" {
		return string(l.As)
	}
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

const description = `Looks into a database of durable servers, and mends it, while the application runs or not.

A database is named by its path, or with its kind: sqlite:counter.db, fdb:/etc/foundationdb/fdb.cluster?dir=app. A
server is named type/id, and a message by its stamp, which queue and dead list. Names with what cannot be seen are shown
as Go strings, in quotes, and are taken so: '"counter/\x1b"'. Exit codes: 0 done, 1 it could not be done, 2 the command line was wrong.`
