// Package prom is telemetry for Prometheus: metrics that it scrapes.
package prom

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/telemetry"
)

// Intercept is db with telemetry, for handles and Run in place of db, and a handler that Prometheus scrapes:
//
//	db, metrics, err := prom.Intercept(store)
//	http.Handle("/metrics", metrics)
//
// Traces go to OpenTelemetry's global provider. Each call has metrics of its own. The metrics of the Go runtime are not among
// them. A program with more to say uses telemetry.New, with a Meter that exports wherever it wants.
func Intercept(db backend.Database) (backend.Database, http.Handler, error) {
	registry := prometheus.NewRegistry()
	histograms := telemetry.NewProducer()
	reader, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo(), exporter.WithProducer(histograms))
	if err != nil {
		return nil, nil, err
	}
	t, err := telemetry.New(telemetry.Options{Meter: metric.NewMeterProvider(metric.WithReader(reader)), Producer: histograms})
	if err != nil {
		return nil, nil, err
	}
	return t.Intercept(db), promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}), nil
}
