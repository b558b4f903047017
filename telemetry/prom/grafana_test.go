package prom_test

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// nameOf finds names of metrics and of labels, which begin alike.
var nameOf = regexp.MustCompile(`\b(?:dserver|messaging)_[a-z0-9_]+`)

// exported is the names of series that a program exports, and of their labels.
func exported(t *testing.T) (series, labels map[string]bool) {
	t.Helper()
	db, url := serve(t, backendtest.NewStore().Open(), tills)
	must(t, tills.At(db, "a").Cast(t.Context(), pay{1}))
	_, err := dserver.Call(t.Context(), tills.At(db, "a"), sum{})
	must(t, err)
	var s scrape
	eventually(t, "turns are measured", func() bool {
		s = scraped(t, url)
		return s.value(t, "dserver_messages_handled_total") == 2
	})
	series, labels = map[string]bool{}, map[string]bool{}
	for _, line := range s {
		name, rest, _ := strings.Cut(line, "{")
		series[name] = true
		for _, label := range nameOf.FindAllString(rest, -1) {
			labels[label] = true
		}
	}
	return series, labels
}

// metricsIn is the metrics that series belong to: a histogram has three.
func metricsIn(series map[string]bool) map[string]bool {
	metrics := map[string]bool{}
	for name := range series {
		for _, part := range []string{"_bucket", "_count", "_sum"} {
			name = strings.TrimSuffix(name, part)
		}
		if nameOf.MatchString(name) {
			metrics[name] = true
		}
	}
	return metrics
}

// dashboard is what this test reads of Grafana's file.
type dashboard struct {
	Title      string
	Templating struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
	Panels []struct {
		Title   string
		Targets []struct{ Expr string }
	}
}

// queriesOf loads the dashboard.
func queriesOf(t *testing.T) (queries []string) {
	t.Helper()
	file, err := os.ReadFile("../grafana/dashboard.json")
	must(t, err)
	var d dashboard
	must(t, json.Unmarshal(file, &d))
	for _, p := range d.Panels {
		if p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("the panel %q has no query", p.Title)
		}
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
		}
	}
	if d.Title == "" || len(d.Templating.List) != 2 || len(queries) == 0 {
		t.Fatalf("a dashboard of %d queries", len(queries))
	}
	return queries
}

// alerts loads the rules. They are YAML of a plain form, a field in a line.
func alerts(t *testing.T) (names, queries []string) {
	t.Helper()
	file, err := os.ReadFile("../grafana/alerts.yml")
	must(t, err)
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "- alert: "); ok {
			names = append(names, name)
		}
		if query, ok := strings.CutPrefix(line, "expr: "); ok {
			queries = append(queries, query)
		}
	}
	if len(names) != len(queries) || len(names) == 0 || strings.Count(string(file), "summary: ") != len(names) {
		t.Fatalf("%d alerts with %d queries", len(names), len(queries))
	}
	return names, queries
}

// The dashboard and the alerts ask for what the code exports, and for all of it; the manual has each metric and each alert.
func TestDashboardAlertsAndManualNameWhatIsExported(t *testing.T) {
	series, labels := exported(t)
	queries := queriesOf(t)
	names, rules := alerts(t)
	asked := map[string]bool{}
	for _, query := range slices.Concat(queries, rules) {
		if strings.Count(query, "(") != strings.Count(query, ")") || strings.Count(query, "{") != strings.Count(query, "}") {
			t.Errorf("not balanced: %s", query)
		}
		for _, name := range nameOf.FindAllString(query, -1) {
			if !series[name] && !labels[name] {
				t.Errorf("%s is not exported: %s", name, query)
			}
			asked[name] = true
		}
	}
	manual, err := os.ReadFile("../../docs/telemetry.md")
	must(t, err)
	metrics := metricsIn(series)
	for name := range metrics {
		if !strings.Contains(string(manual), "| `"+name+"` |") {
			t.Errorf("docs/telemetry.md has no %s", name)
		}
	}
	for _, name := range nameOf.FindAllString(string(manual), -1) {
		if !metrics[name] && !labels[name] {
			t.Errorf("docs/telemetry.md has %s, which is not exported", name)
		}
	}
	for _, name := range names {
		if !strings.Contains(string(manual), "| `"+name+"` |") {
			t.Errorf("docs/telemetry.md has no alert %s", name)
		}
	}
	shown := metricsIn(asked)
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		if !shown[name] {
			t.Errorf("%s is on no panel", name)
		}
	}
}
