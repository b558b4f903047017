package telemetry_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Only the packages of telemetry link OpenTelemetry and Prometheus: who does not import them has neither.
func TestNobodyLinksTelemetryUnasked(t *testing.T) {
	const module = "github.com/dserver-go/dserver/"
	command := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, "../...")
	output, err := command.Output()
	must(t, err)
	asked := 0
	for line := range strings.Lines(string(output)) {
		name, deps, _ := strings.Cut(line, " ")
		links := strings.Contains(deps, "go.opentelemetry.io/") || strings.Contains(deps, "github.com/prometheus/")
		isAsked := strings.HasPrefix(strings.TrimPrefix(name, module), "telemetry")
		if links && !isAsked {
			t.Errorf("%s links telemetry", name)
		}
		if links && isAsked {
			asked++
		}
	}
	if asked == 0 {
		t.Error("nothing links OpenTelemetry: the test looks for the wrong names")
	}
}
