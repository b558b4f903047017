package statediff

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dserver-go/dserver/internal/chunk"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The rows of a state are read by other programs and by later versions of this one: they must not change unnoticed.
func TestGoldenRows(t *testing.T) {
	type address struct{ Street, City string }
	type item struct {
		SKU  string `dserver:"id"`
		Qty  int
		Tags map[string]bool
	}
	type order struct {
		Customer string `dserver:"customer"`
		Paid     bool
		Total    float64
		Placed   time.Time
		Ship     address
		Bill     *address
		Items    []item
		Notes    map[int]string
		Totals   map[string]int `dserver:",whole"`
		Steps    []string
		Scan     []byte
	}
	s := schemaOf[order](t)
	r := rowsOf(t, s, &order{
		Customer: "ann", Paid: true, Total: 12.5, Placed: time.Date(2026, 5, 4, 3, 2, 1, 5, time.FixedZone("", 7200)),
		Ship: address{City: "Ghent"}, Bill: &address{Street: "Main Street 1"},
		Items: []item{{SKU: "tea", Qty: 2, Tags: map[string]bool{"hot": true}}, {SKU: "a cup", Qty: 1}},
		Notes: map[int]string{-1: "fragile", 300: ""}, Totals: map[string]int{"net": 10, "vat": 2},
		Steps: []string{"placed", "paid"}, Scan: make([]byte, chunk.Bytes),
	})
	got := r.String()
	file := filepath.Join("testdata", "order.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got != string(want) {
		t.Fatalf("%v; the rows are\n%s\nbut should be\n%s\nIf this is meant: go test ./statediff -run TestGoldenRows -update", err, got, want)
	}
}
