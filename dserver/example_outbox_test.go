package dserver_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/dserver-go/dserver/dserver"
)

// Hamper is what has been packed for somebody.
type Hamper struct{ Articles []string }

// PutIn is sent once for each order.
type PutIn struct{ Article string }

var hampers = dserver.Define("hamper", dserver.HandleCast(func(_ *dserver.Context, h *Hamper, m PutIn) error {
	h.Articles = append(h.Articles, m.Article)
	return nil
}))

// forward sends what is in the outbox. It may die anywhere, and several may run at a time: a message that was sent already has
// the key of its row, and is not taken again.
func forward(ctx context.Context, tables *sql.DB, hamper *dserver.DServer[Hamper]) error {
	for {
		var id int64
		var m PutIn
		err := tables.QueryRowContext(ctx, "SELECT id, article FROM outbox ORDER BY id LIMIT 1").Scan(&id, &m.Article)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			err = hamper.Cast(ctx, m, dserver.Once(fmt.Sprint("outbox/", id)))
		}
		if err == nil {
			_, err = tables.ExecContext(ctx, "DELETE FROM outbox WHERE id = $1", id)
		}
		if err != nil {
			return err
		}
	}
}

// A message that is to be sent if a transaction of the program's own tables commits is a row of that transaction, in an outbox,
// until something has sent it on. (The other way round, a row that is to be there if a message takes effect, is Context.Exec.)
func Example_outbox() {
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	tables, err := sql.Open("sqlite", filepath.Join(dir, "orders.db")) // any database
	if err != nil {
		log.Fatal(err)
	}
	defer tables.Close()
	_, err = tables.Exec(`CREATE TABLE orders (article TEXT); CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, article TEXT);
		BEGIN; INSERT INTO orders VALUES ('tea'); INSERT INTO outbox (article) VALUES ('tea'); COMMIT`)
	if err != nil {
		log.Fatal(err)
	}

	db, end := serve(hampers)
	ctx := context.Background()
	hamper := hampers.At(db, "ada")
	if err := forward(ctx, tables, hamper); err != nil {
		log.Fatal(err)
	}
	for h, err := range hamper.Follow(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if len(h.Articles) > 0 {
			fmt.Println(h.Articles)
			break
		}
	}
	end()
	// Output: [tea]
}
