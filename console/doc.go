// Package console shows durable servers in a browser, and lets people mend them: what waits, what fails and why, each server
// with its state, its messages and its dead letters, as they change. A program mounts it in its own mux, behind its own login:
//
//	mux.Handle("/console/", http.StripPrefix("/console", console.Handler(db, console.Options{
//		Authorize: func(r *http.Request) (console.User, error) { ... },
//	})))
//
// Command dserver console serves the same beside any application, without its types.
//
// # What it promises
//
//   - Who looks changes nothing, but that the index of troubles is tidied up (dserver.Troubles), and costs little: however many
//     browsers show a page, the store is read for all of them at once, and not at all when nobody looks. No page reads all servers.
//   - Acts are those of package dserver, with the same transactions, and are written down with the name of the user
//     (dserver.WithActor). What cannot be taken back is asked about, on a page that says what will happen.
//   - Without Options.Authorize nobody may act.
//   - Whatever is stored, it is shown and not run: pages have no script but the one of this package, and ask no other host.
//
// # How
//
// A page is a template over what one function of its own has loaded (views). Parts of it that change are regions. A browser that
// shows the page asks for its stream as well; all that show the same page share a topic (live.go), which loads again and again,
// and sends the regions that are others than before. The script (assets/console.js) puts them in place. Links are relative, so
// the package does not know where it is mounted.
package console
