package console

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/dserver-go/dserver/internal/display"
)

// What a tree shows of a state, so that a page stays small whatever its size.
const (
	treeNodes    = 500
	treeChildren = 100 // of one node
	treeRunes    = 160 // of a value
	treeOpen     = 12  // children that are shown without a click
)

// node is a place in a state.
type node struct {
	Name     string // of the field, key or item
	Path     string // the place, as display.Place reads it
	Value    string // on one line; "" of one with children
	Kind     string // text, number, bytes, time, other; map or list of one with children
	Count    int    // of children
	Children []*node
	More     int // children that are left out
	Open     bool
}

// IsLeaf reports whether it is a value without parts.
func (n *node) IsLeaf() bool { return n.Kind != "map" && n.Kind != "list" }

// treeOf makes a tree of a state.
func treeOf(state any) *node {
	left := treeNodes
	return nodeOf("", nil, state, &left, 0)
}

func nodeOf(name string, path display.Place, v any, left *int, depth int) *node {
	*left--
	n := &node{Name: name, Path: path.String()}
	var children []child
	switch v := v.(type) {
	case map[string]any:
		n.Kind, children = "map", sorted(v)
	case []any:
		n.Kind, children = "list", make([]child, len(v))
		for i, e := range v {
			children[i] = child{strconv.Itoa(i), e}
		}
	default:
		n.Kind, n.Value = kindOf(v), display.Shorten(display.Compact(display.Plain(v)), treeRunes)
		if b, is := v.([]byte); is {
			n.Value = fmt.Sprintf("%s, %s", display.Shorten(n.Value, treeRunes/2), size(len(b)))
		}
		return n
	}
	n.Count = len(children)
	n.Open = depth == 0 || n.Count <= treeOpen && depth < 3
	for i, c := range children {
		if *left <= 0 || i == treeChildren {
			n.More = n.Count - i
			break
		}
		n.Children = append(n.Children, nodeOf(c.name, append(slices.Clone(path), c.name), c.value, left, depth+1))
	}
	return n
}

// child is a part of a value.
type child struct {
	name  string
	value any
}

// sorted is the entries of a map, in the order of their keys: as numbers, where all of them are.
func sorted(m map[string]any) []child {
	keys := slices.Sorted(maps.Keys(m))
	areNumbers := !slices.ContainsFunc(keys, func(k string) bool { _, err := strconv.ParseInt(k, 10, 64); return err != nil })
	if areNumbers {
		slices.SortStableFunc(keys, func(a, b string) int {
			x, _ := strconv.ParseInt(a, 10, 64)
			y, _ := strconv.ParseInt(b, 10, 64)
			return cmp.Compare(x, y)
		})
	}
	all := make([]child, len(keys))
	for i, k := range keys {
		all[i] = child{k, m[k]}
	}
	return all
}

func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "text"
	case int64, uint64, float64, float32, int:
		return "number"
	case []byte:
		return "bytes"
	case time.Time:
		return "time"
	}
	return "other"
}
