package prom_test

import (
	"context"
	"log"
	"net/http"

	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/telemetry/prom"
)

// Metrics for Prometheus are given where the database is opened.
func Example() {
	store, err := sqlite.Open("app.db")
	if err != nil {
		log.Fatal(err)
	}
	db, metrics, err := prom.Intercept(store)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/metrics", metrics)
	go func() { log.Fatal(http.ListenAndServe("localhost:9090", nil)) }()
	if err := dserver.Run(context.Background(), db, tills); err != nil {
		log.Fatal(err)
	}
}
