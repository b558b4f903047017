package main

import (
	"bytes"
	"go/build"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// releases is what of .goreleaser.yaml names something of the repository.
type releases struct {
	Version int
	Before  struct{ Hooks []string }
	Builds  []struct {
		Main, Binary      string
		Env, GOOS, GOARCH []string
	}
	Archives []struct {
		Files []yaml.Node
	}
	Checksum struct{ Algorithm string }
}

// What a release is made of is there: the main packages, and the files of its archives, those too that are made before.
func TestAReleaseIsMadeOfWhatThereIs(t *testing.T) {
	const root = "../.."
	text, err := os.ReadFile(filepath.Join(root, ".goreleaser.yaml"))
	must(t, err)
	var r releases
	must(t, yaml.NewDecoder(bytes.NewReader(text)).Decode(&r))
	if r.Version != 2 || len(r.Builds) == 0 || len(r.Archives) == 0 || r.Checksum.Algorithm != "sha256" {
		t.Fatalf("it is %+v", r)
	}
	for _, b := range r.Builds {
		program, err := build.ImportDir(filepath.Join(root, b.Main), 0)
		if must(t, err); !program.IsCommand() {
			t.Errorf("%s is no program", b.Main)
		}
		if !slices.Equal(b.GOOS, []string{"linux", "darwin", "windows"}) || !slices.Equal(b.GOARCH, []string{"amd64", "arm64"}) || !slices.Contains(b.Env, "CGO_ENABLED=0") {
			t.Errorf("it is built for %v %v with %v", b.GOOS, b.GOARCH, b.Env)
		}
	}
	made := manualFiles(t, root, r.Before.Hooks)
	files := 0
	for _, archive := range r.Archives {
		for _, node := range archive.Files {
			var file struct{ Src, Dst string }
			if node.Decode(&file.Src) != nil {
				must(t, node.Decode(&file))
			}
			path := filepath.Join(root, file.Src)
			if rest, isMade := strings.CutPrefix(file.Src, "bin/manual/"); isMade {
				path = filepath.Join(made, rest)
			}
			found, err := filepath.Glob(path)
			if must(t, err); len(found) == 0 {
				t.Errorf("there is no %s", file.Src)
			}
			for _, name := range found {
				if info, err := os.Stat(name); err != nil || info.Size() == 0 {
					t.Errorf("%s is empty, %v", name, err)
				}
			}
			files += len(found)
		}
	}
	if files < 8 { // licence, readme, changelog, operations, the manual page and three completions
		t.Errorf("an archive has %d files", files)
	}
}

// manualFiles runs what is run before a release, with this test as the tool, and returns where its files are.
func manualFiles(t *testing.T, root string, hooks []string) string {
	t.Helper()
	if !slices.Equal(hooks, []string{"make manual"}) {
		t.Fatalf("before a release is run %q", hooks)
	}
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("there is no make")
	}
	program, err := os.Executable()
	must(t, err)
	dir := t.TempDir()
	run := exec.Command("make", "manual", "TOOL="+program, "MANUAL="+dir)
	run.Dir = root
	run.Env = append(os.Environ(), asTool+"=1", "GORACE=atexit_sleep_ms=0")
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}
