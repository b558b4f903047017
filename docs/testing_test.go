package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/internal/buildtest"
)

const manual = "dserver/dservertest/manual_test.go"

// manualOf returns the file that testing.md shows, and the document's blocks in a language.
func manualOf(t *testing.T, language string) (code string, blocks []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(manual)))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocksOf("docs/testing.md", documents(t)["docs/testing.md"]) {
		if b.language == language {
			blocks = append(blocks, b.text)
		}
	}
	return string(text), blocks
}

func TestTheCodeOfTestingIsTheManual(t *testing.T) {
	code, blocks := manualOf(t, "go")
	_, code, _ = strings.Cut(code, "\n)\n\n") // without the imports
	if got := strings.Join(blocks, "\n"); got != code {
		t.Errorf("docs/testing.md shows\n%s\nwhich is not %s below its imports", got, manual)
	}
}

// The document says what the manual's tests print when something is left out. So it is left out.
func TestTheManualFailsAsItSays(t *testing.T) {
	code, outputs := manualOf(t, "text")
	mistakes := []struct{ test, right, wrong string }{
		{"TestEachOrderHasOneWinner", "\ta.Open = false\n", ""},
		{"TestABidCountsOnceWithEachFault", ", dserver.Once(key))", ")"},
	}
	if len(outputs) != len(mistakes) {
		t.Fatalf("%d outputs are shown", len(outputs))
	}
	dir := t.TempDir()
	writeModule(t, dir)
	for i, m := range mistakes {
		if strings.Count(code, m.right) != 1 {
			t.Fatalf("%q is not in the manual, once", m.right)
		}
		write(t, filepath.Join(dir, "manual_test.go"), strings.Replace(code, m.right, m.wrong, 1))
		command := exec.Command("go", slices.Concat([]string{"test", "-mod=mod", "-run", "^" + m.test + "$"}, buildtest.Flags(t))...)
		command.Dir, command.Env = dir, append(os.Environ(), "GOFLAGS=", "GOWORK=off")
		printed, err := command.CombinedOutput()
		if err == nil {
			t.Errorf("%s finds nothing without %q", m.test, m.right)
		}
		rest := string(printed)
		for line := range strings.Lines(outputs[i]) {
			line = regexp.MustCompile(`/\d+$`).ReplaceAllString(strings.TrimSpace(line), "/") // at which commit
			_, after, found := strings.Cut(rest, line)
			if !found {
				t.Fatalf("%s does not print %q, or not there:\n%s", m.test, line, printed)
			}
			rest = after
		}
	}
}
