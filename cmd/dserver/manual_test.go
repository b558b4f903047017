package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// all is what the parser knows.
func allVerbs(t *testing.T) []verb {
	t.Helper()
	parser, err := kong.New(&commandLine{}, kong.Vars{"version": "x"})
	must(t, err)
	return verbs(parser.Model.Node, "")
}

// offline runs the program without a database.
func offline(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := dserverTool(t, t.TempDir(), args...)
	if code != exitDone {
		t.Fatalf("%v: exit code %d, %s", args, code, stderr)
	}
	return stdout
}

// The help of each command is what a golden file has, and the manual page and the completions know each command and each flag.
func TestGoldenHelp(t *testing.T) {
	var help strings.Builder
	pages := map[string]string{
		"man": offline(t, "man"), "bash": offline(t, "completion", "bash"), "zsh": offline(t, "completion", "zsh"), "fish": offline(t, "completion", "fish"),
	}
	help.WriteString(offline(t, "--help"))
	for _, v := range allVerbs(t) {
		help.WriteString("\n$ dserver " + v.name + " --help\n" + offline(t, append(strings.Fields(v.name), "--help")...))
		for page, text := range pages {
			if !strings.Contains(text, strings.Fields(v.name)[0]) {
				t.Errorf("%s does not know %s", page, v.name)
			}
			for _, f := range v.flags {
				if name := strings.ReplaceAll(f.Name, "-", `\-`); !strings.Contains(text, f.Name) && !strings.Contains(text, name) {
					t.Errorf("%s does not know --%s of %s", page, f.Name, v.name)
				}
			}
		}
	}
	golden(t, "help", help.String())
	golden(t, "man", pages["man"])
}

// What the completion of bash offers is what can be written there.
func TestBashCompletes(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash")
	}
	script := filepath.Join(t.TempDir(), "complete.sh")
	must(t, os.WriteFile(script, []byte(offline(t, "completion", "bash")), 0o600))
	for line, want := range map[string]string{
		"dserver l":                     "ls later locks",
		"dserver --db x.db ret":         "retry",
		"dserver --db x.db ls --s":      "--sort",
		"dserver state s":               "show set",
		"dserver state set --cr":        "--create",
		"dserver discard x/y --dry":     "--dry-run",
		"dserver --vers":                "--version",
		"dserver --db x.db state --jso": "--json",
	} {
		words := strings.Fields(line)
		run := exec.Command(bash, "-c", fmt.Sprintf(`source %q; COMP_WORDS=(%s); COMP_CWORD=%d; _dserver; echo "${COMPREPLY[@]}"`, script, line, len(words)-1))
		out, err := run.CombinedOutput()
		got := strings.Fields(string(out))
		if err != nil || !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: %v, %s", line, err, out)
		}
	}
}

// The manual page is one that man takes without a warning.
func TestManTakesTheManualPage(t *testing.T) {
	man, err := exec.LookPath("man")
	if err != nil {
		t.Skip("there is no man")
	}
	page := filepath.Join(t.TempDir(), "dserver.1")
	must(t, os.WriteFile(page, []byte(offline(t, "man")), 0o600))
	run := exec.Command(man, "--warnings", "-l", page)
	run.Env = append(os.Environ(), "MANPAGER=cat", "MANWIDTH=100", "LC_ALL=C.UTF-8", "MAN_KEEP_FORMATTING=")
	var errs strings.Builder
	run.Stderr = &errs
	out, err := run.Output()
	if err != nil && strings.Contains(errs.String(), "minimized") || strings.Contains(string(out), "minimized") {
		t.Skip("man is there in name alone")
	}
	if err != nil || errs.Len() > 0 || !strings.Contains(string(out), "state set") {
		t.Errorf("%v, %s%s", err, errs.String(), out)
	}
}

func TestTheVersionIsPrinted(t *testing.T) {
	if out := offline(t, "--version"); !strings.HasPrefix(out, "dserver ") || !strings.Contains(out, "go1.") {
		t.Errorf("it is %q", out)
	}
}

// parsed is what a command line is taken for.
func parsed(t *testing.T, into *commandLine, args []string) string {
	t.Helper()
	parser, err := kong.New(into, kong.Vars{"version": "x"})
	must(t, err)
	command, err := parser.Parse(args)
	must(t, err)
	return command.Command()
}
