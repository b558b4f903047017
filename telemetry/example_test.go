package telemetry_test

import (
	"context"
	"log"

	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/telemetry"
)

// Telemetry is given where the database is opened. Traces go to OpenTelemetry's global providers, which the program sets up.
func Example() {
	store, err := sqlite.Open("app.db")
	if err != nil {
		log.Fatal(err)
	}
	t, err := telemetry.New(telemetry.Options{}) // OpenTelemetry's globals
	if err != nil {
		log.Fatal(err)
	}
	db := t.Intercept(store) // for handles and Run, in place of the store
	if err := dserver.Run(context.Background(), db, orders, stocks, posts); err != nil {
		log.Fatal(err)
	}
}
