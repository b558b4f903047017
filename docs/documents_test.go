// Package docs_test keeps the documents true: their programs run and print what they say, their fragments are copies of
// code that is tested, the tests and files that they name exist.
package docs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/internal/buildtest"
)

const root = ".."

// block is a fenced block of a document.
type block struct {
	document, language, text string
	line                     int
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.document, b.line) }

func (b block) isProgram() bool {
	return b.language == "go" && strings.HasPrefix(b.text, "package main\n")
}

// documents returns the texts of what stands at the root, of the examples' README and of all that is below docs, by their
// path from the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*.md", "llms.txt", "examples/README.md", "docs/*.md", "docs/*/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			all[filepath.ToSlash(name)] = string(text)
		}
	}
	if len(all) < 10 {
		t.Fatalf("only %d documents were found", len(all))
	}
	return all
}

// blocksOf returns the fenced blocks of a document in their order.
func blocksOf(document, text string) (blocks []block) {
	var open *block
	for i, line := range strings.Split(text, "\n") {
		language, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			open = &block{document: document, language: language, line: i + 1}
		case isFence:
			blocks, open = append(blocks, *open), nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	return blocks
}

// program is a block that is a whole program, with what it prints when it is run once, and again in the same folder.
type program struct {
	block
	prints []string
}

func programs(t *testing.T) (list []program) {
	t.Helper()
	for document, text := range documents(t) {
		last := -1
		for _, b := range blocksOf(document, text) {
			switch {
			case b.isProgram():
				list, last = append(list, program{block: b}), len(list)
			case b.language == "text" && last >= 0:
				list[last].prints = append(list[last].prints, b.text)
			default:
				last = -1
			}
		}
	}
	slices.SortFunc(list, func(a, b program) int { return strings.Compare(a.String(), b.String()) })
	return list
}

// The module's own go.mod, as that of a program that was told to go get it.
func writeModule(t *testing.T, dir string) {
	t.Helper()
	absolute, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	module, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	const path = "github.com/dserver-go/dserver"
	text := strings.Replace(string(module), "module "+path, "module example.org/reader", 1) +
		fmt.Sprintf("\nrequire %s v0.0.0\n\nreplace %s => %q\n", path, path, absolute)
	write(t, filepath.Join(dir, "go.mod"), text)
	write(t, filepath.Join(dir, "go.sum"), string(sums))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err = errors.Join(err, os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestProgramsOfTheDocumentsPrintWhatTheySay(t *testing.T) {
	dir := t.TempDir()
	writeModule(t, dir)
	list := programs(t)
	if len(list) < 3 {
		t.Fatalf("only %d programs were found", len(list))
	}
	for i, p := range list {
		write(t, filepath.Join(dir, fmt.Sprint("program", i), "main.go"), p.text)
	}
	bin := filepath.Join(dir, "bin") + string(filepath.Separator)
	build := exec.Command("go", slices.Concat([]string{"build", "-mod=mod", "-o", bin}, buildtest.Flags(t), []string{"./..."})...)
	build.Dir, build.Env = dir, append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		for i, p := range list {
			t.Logf("program%d is %v", i, p)
		}
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for i, p := range list {
		folder := t.TempDir()
		for n, want := range p.prints {
			command := exec.Command(filepath.Join(bin, fmt.Sprint("program", i)))
			command.Dir = folder
			command.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // else each of them ends a second later
			var complaints bytes.Buffer
			command.Stderr = &complaints
			out, err := command.Output()
			if err != nil || string(out) != want {
				t.Errorf("%v, run %d: it printed\n%s%s\nnot\n%s(%v)", p, n+1, out, &complaints, want, err)
			}
		}
	}
}

func TestFragmentsOfTheDocumentsAreInTheCode(t *testing.T) {
	code := goFiles(t)
	for document, text := range documents(t) {
		for _, b := range blocksOf(document, text) {
			if b.language != "go" || b.isProgram() {
				continue
			}
			want := plain(b.text)
			if !slices.ContainsFunc(code, func(file string) bool { return strings.Contains(plain(file), want) }) {
				t.Errorf("%v: no file of the module has\n%s", b, b.text)
			}
		}
	}
}

// plain is code without indentation and comment signs, so that a copy from a comment is one as well.
func plain(code string) string {
	lines := strings.Split(code, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "//"))
	}
	return strings.Join(lines, "\n")
}

func goFiles(t *testing.T) (texts []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		texts = append(texts, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

func TestDocumentsNameTestsThatExist(t *testing.T) {
	code := strings.Join(goFiles(t), "\n")
	found := 0
	for document, text := range documents(t) {
		for _, match := range regexp.MustCompile("`((?:Test|Example|Fuzz|Benchmark)[A-Z_]\\w*)`").FindAllStringSubmatch(text, -1) {
			found++
			if !strings.Contains(code, "\nfunc "+match[1]+"(") {
				t.Errorf("%s: there is no test %s", document, match[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d names of tests were found", found)
	}
}

// What is in backticks and has a folder and an extension is relative to the root.
func TestDocumentsNameFilesThatExist(t *testing.T) {
	quoted := regexp.MustCompile("`((?:backend|cmd|docs|dserver|examples|internal|queue|statediff)/[\\w/.-]+)`")
	for document, text := range documents(t) {
		for _, match := range quoted.FindAllStringSubmatch(text, -1) {
			mustExist(t, document, filepath.Join(root, match[1]))
		}
	}
}

// The drawing of the packages is a line for each, with what it imports, and below it stand all of these.
func TestPackagesAreAsDrawn(t *testing.T) {
	const module = "github.com/dserver-go/dserver/"
	_, text, isThere := strings.Cut(documents(t)["docs/reading-the-source.md"], "## The packages")
	if !isThere {
		t.Fatal("there is no drawing")
	}
	_, text, _ = strings.Cut(text, "```text\n")
	text, _, _ = strings.Cut(text, "```")
	expectDrawn(t, strings.Split(strings.TrimSpace(text), "\n"), importsOf(t, module))
}

// testsOnly is what no program links.
var testsOnly = []string{"docs", "backend/fdb/fdbserver", "backend/fdb/fdbtest", "backend/postgres/pgtest", "internal/buildtest", "internal/dbtest", "internal/limitstest", "internal/wire/wiretest", "examples/internal/child"}

// importsOf returns what each package imports of the module. The examples are one.
func importsOf(t *testing.T, module string) map[string][]string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	command.Dir = root
	output, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(output)) {
		words := strings.Fields(line)
		name := strings.TrimPrefix(words[0], module)
		if slices.Contains(testsOnly, name) {
			continue
		}
		if strings.HasPrefix(name, "examples/") && !strings.HasPrefix(name, "examples/internal/") {
			name = "examples/*"
		}
		for _, imported := range words[1:] {
			if below, ok := strings.CutPrefix(imported, module); ok && !slices.Contains(all[name], below) {
				all[name] = append(all[name], below)
			}
		}
		if all[name] == nil {
			all[name] = []string{}
		}
	}
	return all
}

func expectDrawn(t *testing.T, lines []string, imports map[string][]string) {
	t.Helper()
	var above []string
	for _, line := range lines {
		words := strings.Fields(line)
		name, drawn := words[0], words[1:]
		for _, imported := range drawn {
			if slices.Contains(above, imported) {
				t.Errorf("%s stands below %s, which it imports", name, imported)
			}
		}
		above = append(above, name)
		got := imports[name]
		slices.Sort(got)
		slices.Sort(drawn)
		if !slices.Equal(got, drawn) {
			t.Errorf("%s is drawn with %v, and imports %v", name, drawn, got)
		}
	}
	for name := range imports {
		if !slices.Contains(above, name) {
			t.Errorf("%s is not drawn", name)
		}
	}
}

// Links are relative to their document, and an anchor is that of a heading, as GitHub names it.
func TestLinksOfTheDocumentsLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)"\s]+)`)
	all, found := documents(t), 0
	for document, text := range all {
		for _, match := range link.FindAllStringSubmatch(withoutBlocks(text), -1) {
			if strings.Contains(match[1], "://") {
				continue // what others have is not looked up by a test
			}
			found++
			target, anchor, hasAnchor := strings.Cut(match[1], "#")
			if target = path.Join(path.Dir(document), target); match[1][0] == '#' {
				target = document
			}
			mustExist(t, document, filepath.Join(root, filepath.FromSlash(target)))
			if hasAnchor && !slices.Contains(anchorsOf(all[target]), anchor) {
				t.Errorf("%s: %s has no heading for #%s", document, target, anchor)
			}
		}
	}
	if found < 60 {
		t.Errorf("only %d links were found", found)
	}
}

// withoutBlocks is a document without its fenced blocks, in which nothing is a link or a heading.
func withoutBlocks(text string) string {
	return regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, "")
}

// anchorsOf returns the names of a document's headings: in lower case, without punctuation, with hyphens for spaces, and
// with a number where a heading stands again.
func anchorsOf(text string) (anchors []string) {
	times := map[string]int{}
	for _, match := range regexp.MustCompile(`(?m)^#{1,6} +(.+)$`).FindAllStringSubmatch(withoutBlocks(text), -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N}\- _]`).ReplaceAllString(strings.ToLower(match[1]), "")
		name = strings.ReplaceAll(name, " ", "-")
		if times[name]++; times[name] > 1 {
			name += fmt.Sprint("-", times[name]-1)
		}
		anchors = append(anchors, name)
	}
	return anchors
}

func mustExist(t *testing.T, document, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("%s: %v", document, err)
	}
}
