package console_test

import (
	"context"
	"errors"
	"log"
	"net/http"
	"time"

	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/console"
)

// A program serves its own console, to those who are logged in.
func ExampleHandler() {
	db, err := sqlite.Open("shop.db")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	// authorize knows the program's sessions. Those who help customers look, those on call act.
	authorize := func(r *http.Request) (console.User, error) {
		session, err := r.Cookie("session")
		if err != nil {
			return console.User{}, errors.New("log in first")
		}
		name, isOnCall := lookUp(session.Value)
		return console.User{Name: name, Act: isOnCall}, nil
	}

	mux := http.NewServeMux()
	mux.Handle("/console/", http.StripPrefix("/console", console.Handler(db, console.Options{
		Title:     "shop",
		Authorize: authorize,
		TraceURL:  "https://traces.example.org/trace/{trace}",
		Context:   ctx, // ends streams when the program ends
	})))
	server := &http.Server{Addr: "127.0.0.1:8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	if err := server.ListenAndServe(); err != nil {
		log.Print(err)
	}
}

func lookUp(session string) (name string, isOnCall bool) { return session, session == "ada" }
