package statediff_test

import (
	"fmt"
	"log"
	"reflect"

	"github.com/dserver-go/dserver/statediff"
)

func ExampleSchema_Diff() {
	type Item struct {
		SKU string `dserver:"id"`
		Qty int
	}
	type Cart struct {
		Owner string
		Items []Item
	}
	schema, err := statediff.For(reflect.TypeFor[Cart]())
	if err != nil {
		log.Fatal(err)
	}
	rows := statediff.NewRows()
	store := func(c Cart) {
		edits, err := schema.Diff(rows, &c)
		if err != nil {
			log.Fatal(err)
		}
		for _, e := range edits {
			fmt.Println([]string{"set", "clear", "clear all of"}[e.Clear], statediff.Path(e.Key))
		}
		rows.Apply(edits)
	}
	store(Cart{"ann", []Item{{"tea", 1}, {"cup", 2}}})
	fmt.Println("- the order and an amount change")
	store(Cart{"ann", []Item{{"cup", 3}, {"tea", 1}}})
	fmt.Println("- an item goes")
	store(Cart{"ann", []Item{{"tea", 1}}})
	fmt.Print("- the rows\n", rows)
	// Output:
	// set Items.cup
	// set Items.cup#
	// set Items.tea
	// set Items.tea#
	// set Owner
	// - the order and an amount change
	// set Items.cup
	// set Items.cup#
	// - an item goes
	// clear all of Items.cup
	// - the rows
	// Items.tea = {"Qty": 1, "SKU": "tea"}
	// Items.tea# = h'80'
	// Owner = "ann"
}

// A handler that uses tracked collections is tested without a store.
func ExampleList() {
	type Chat struct {
		Members statediff.Map[string, int]
		Log     statediff.List[string]
	}
	post := func(c *Chat, who, text string) {
		n, _ := c.Members.Get(who)
		c.Members.Set(who, n+1)
		c.Log.Append(who + ": " + text)
	}
	var c Chat
	post(&c, "bob", "hello")
	post(&c, "ann", "hi")
	post(&c, "bob", "bye")
	for who, n := range c.Members.All() {
		fmt.Println(who, n)
	}
	for _, line := range c.Log.Backward("") {
		fmt.Println(line)
		break
	}
	// Output:
	// ann 1
	// bob 2
	// bob: bye
}

// What could not come back as it was is refused, with the path of the field.
func ExampleFor() {
	type Line struct {
		SKU   string `dserver:"id"`
		Price func() int
	}
	type Cart struct{ Lines []Line }
	_, err := statediff.For(reflect.TypeFor[Cart]())
	fmt.Println(err)
	// Output: statediff: statediff_test.Cart.Lines[].Price: a func cannot be stored
}

// A field that was added is zero in older states, and one that is written is the only row that changes.
func ExampleSchema_Decode() {
	type Before struct{ Name string }
	type After struct {
		Name  string
		Years map[string]int
	}
	old, err := statediff.For(reflect.TypeFor[Before]())
	if err != nil {
		log.Fatal(err)
	}
	rows := statediff.NewRows()
	edits, err := old.Diff(rows, &Before{"ann"})
	if err != nil {
		log.Fatal(err)
	}
	rows.Apply(edits)

	schema, err := statediff.For(reflect.TypeFor[After]())
	if err != nil {
		log.Fatal(err)
	}
	var state After
	if err := schema.Decode(rows, &state); err != nil {
		log.Fatal(err)
	}
	state.Years["born"] = 1990 // maps are never nil
	if edits, err = schema.Diff(rows, &state); err != nil {
		log.Fatal(err)
	}
	rows.Apply(edits)
	fmt.Print(len(edits), " edit\n", rows)
	// Output:
	// 1 edit
	// Name = "ann"
	// Years.born = 1990
}
