package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// What is told of the commands is made of what the parser knows of them, so that it is always all of it.

// isOffline reports whether a command needs no database.
func isOffline(c *kong.Context) bool {
	name, _, _ := strings.Cut(c.Command(), " ")
	return name == "completion" || name == "man"
}

// verb is a command with its flags.
type verb struct {
	name, help string
	args       []string
	flags      []*kong.Flag
}

// verbs is all commands, those within another one with its name before theirs.
func verbs(node *kong.Node, before string) (all []verb) {
	for _, child := range node.Children {
		if child.Hidden {
			continue
		}
		v := verb{name: before + child.Name, help: child.Help, flags: shownFlags(child.Flags)}
		for _, p := range child.Positional {
			v.args = append(v.args, p.Summary())
		}
		if len(child.Children) == 0 {
			all = append(all, v)
		}
		all = append(all, verbs(child, v.name+" ")...)
	}
	return all
}

func shownFlags(all []*kong.Flag) (shown []*kong.Flag) {
	for _, f := range all {
		if !f.Hidden {
			shown = append(shown, f)
		}
	}
	return shown
}

// completionCommand prints the completion of a shell.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"The shell: bash, zsh or fish."`
}

// Run prints it.
func (c *completionCommand) Run(k *kong.Context, t *tool) error {
	all, common := verbs(k.Model.Node, ""), shownFlags(k.Model.Flags)
	var text string
	switch c.Shell {
	case "bash":
		text = bashCompletion(all, common)
	case "zsh":
		text = "autoload -U +X bashcompinit && bashcompinit\n" + bashCompletion(all, common)
	case "fish":
		text = fishCompletion(all, common)
	}
	_, err := fmt.Fprint(t.out.w, text)
	return err
}

// words is the names of commands that follow another one's, each once: those of the first place follow none.
func words(all []verb, before string) (next []string) {
	for _, v := range all {
		if rest, found := strings.CutPrefix(v.name, before); found {
			word, _, _ := strings.Cut(rest, " ")
			next = append(next, word)
		}
	}
	return slices.Compact(next)
}

func flagWords(flags ...[]*kong.Flag) (names []string) {
	for _, list := range flags {
		for _, f := range list {
			names = append(names, "--"+f.Name)
		}
	}
	return names
}

func bashCompletion(all []verb, common []*kong.Flag) string {
	var b strings.Builder
	first := words(all, "")
	fmt.Fprintf(&b, `# dserver completion bash: source it, or put it into /etc/bash_completion.d.
_dserver() {
	local word verb= current="${COMP_WORDS[COMP_CWORD]}"
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		case "$word" in
		%s) verb="$word"; break ;;
		esac
	done
	case "$verb" in
	'') COMPREPLY=($(compgen -W "%s" -- "$current")) ;;
`, strings.Join(first, "|"), strings.Join(append(first, flagWords(common)...), " "))
	for _, name := range first {
		var flags [][]*kong.Flag
		for _, v := range all {
			if v.name == name || strings.HasPrefix(v.name, name+" ") {
				flags = append(flags, v.flags)
			}
		}
		next := append(words(all, name+" "), flagWords(append(flags, common)...)...)
		fmt.Fprintf(&b, "\t%s) COMPREPLY=($(compgen -W \"%s\" -- \"$current\")) ;;\n", name, strings.Join(next, " "))
	}
	b.WriteString("\tesac\n}\ncomplete -o default -F _dserver dserver\n")
	return b.String()
}

func fishCompletion(all []verb, common []*kong.Flag) string {
	var b strings.Builder
	b.WriteString("# dserver completion fish: put it into ~/.config/fish/completions/dserver.fish.\ncomplete -c dserver -f\n")
	first := words(all, "")
	help := map[string]string{}
	for _, v := range all {
		if help[v.name] = v.help; strings.Contains(v.name, " ") {
			name, rest, _ := strings.Cut(v.name, " ")
			fmt.Fprintf(&b, "complete -c dserver -n '__fish_seen_subcommand_from %s' -a %s -d %s\n", name, rest, fishQuoted(v.help))
		}
	}
	for _, name := range first {
		fmt.Fprintf(&b, "complete -c dserver -n __fish_use_subcommand -a %s -d %s\n", name, fishQuoted(help[name]))
	}
	flag := func(when string, f *kong.Flag) {
		needs := " -r"
		if f.IsBool() {
			needs = ""
		}
		fmt.Fprintf(&b, "complete -c dserver%s -l %s%s -d %s\n", when, f.Name, needs, fishQuoted(f.Help))
	}
	for _, f := range common {
		flag("", f)
	}
	for _, v := range all {
		name, _, _ := strings.Cut(v.name, " ")
		for _, f := range v.flags {
			flag(" -n '__fish_seen_subcommand_from "+name+"'", f)
		}
	}
	return b.String()
}

// fishQuoted is a word of fish.
func fishQuoted(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", `\'`) + "'"
}

// manCommand prints the manual page.
type manCommand struct{}

// Run prints it, in the language of man.
func (*manCommand) Run(k *kong.Context, t *tool) error {
	var b strings.Builder
	b.WriteString(".TH DSERVER 1\n.SH NAME\ndserver \\- looks into a database of durable servers, and mends it\n")
	b.WriteString(".SH SYNOPSIS\n.B dserver\n--db=NAME COMMAND ...\n.SH DESCRIPTION\n")
	for _, paragraph := range strings.Split(description, "\n\n") {
		fmt.Fprintf(&b, "%s\n.PP\n", roff(strings.ReplaceAll(paragraph, "\n", " ")))
	}
	b.WriteString(".SH OPTIONS\n")
	for _, f := range shownFlags(k.Model.Flags) {
		roffFlag(&b, f)
	}
	b.WriteString(".SH COMMANDS\n")
	for _, v := range verbs(k.Model.Node, "") {
		fmt.Fprintf(&b, ".SS %s\n%s\n", roff(strings.Join(append([]string{v.name}, v.args...), " ")), roff(v.help))
		for _, f := range v.flags {
			roffFlag(&b, f)
		}
	}
	b.WriteString(".SH EXIT STATUS\n0 when it was done, 1 when it could not be done, 2 when the command line was wrong.\n")
	_, err := fmt.Fprint(t.out.w, b.String())
	return err
}

func roffFlag(b *strings.Builder, f *kong.Flag) {
	fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(f.String()), roff(f.Help))
}

// roff is a text in which nothing is a request.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
