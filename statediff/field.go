package statediff

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// tagName is the struct tag that says how a field is stored.
const tagName = "dserver"

// tag is the parsed dserver tag of a field.
type tag struct {
	name            string // "" when the tag gives none
	skip, whole, id bool
}

func parseTag(f reflect.StructField) (tag, error) {
	text := f.Tag.Get(tagName)
	name, options, more := strings.Cut(text, ",")
	var t tag
	switch {
	case text == "-":
		return tag{skip: true}, nil
	case name == "id" && !more:
		t.id = true
	default:
		t.name = name
	}
	for option := range strings.SplitSeq(options, ",") {
		switch option {
		case "whole":
			t.whole = true
		case "id":
			t.id = true
		case "":
		default:
			return tag{}, fmt.Errorf("the tag %q has the unknown option %q", text, option)
		}
	}
	return t, nil
}

// tagOfCBOR is the tag that the CBOR library reads.
func tagOfCBOR(f reflect.StructField) string { return cmp.Or(f.Tag.Get("cbor"), f.Tag.Get("json")) }

// omitsZero reports whether the CBOR library leaves the field out when its value is zero.
func omitsZero(f reflect.StructField) bool {
	_, options, _ := strings.Cut(tagOfCBOR(f), ",")
	return slices.Contains(strings.Split(options, ","), "omitzero")
}

// cborName is the name that the CBOR library gives the field inside one value; "" when it leaves the field out.
func cborName(f reflect.StructField) string {
	text := tagOfCBOR(f)
	if text == "-" {
		return ""
	}
	if name, _, _ := strings.Cut(text, ","); name != "" {
		return name
	}
	return f.Name
}

// field is a stored field of a struct; those of embedded structs are promoted.
type field struct {
	name  string
	index []int
	typ   reflect.Type
	tag   tag
	plain bool // the CBOR library would store it under the same name
}

// storedName is the dserver tag's name, or else the cbor tag's, the json tag's, the Go name.
func storedName(f reflect.StructField, t tag) string {
	if t.name != "" {
		return t.name
	}
	if name := cborName(f); name != "" {
		return name
	}
	return f.Name
}

// fields returns the stored fields of a struct type. all tells whether the CBOR library would
// store no others.
func (c *compiler) fields(t reflect.Type) (list []field, all bool, err error) {
	all = true
	if err := c.collect(t, nil, &list, &all); err != nil {
		return nil, false, err
	}
	names := make(map[string]bool, len(list))
	for _, f := range list {
		if names[f.name] {
			return nil, false, c.refuse("two fields are stored as %q", f.name)
		}
		names[f.name] = true
	}
	return list, all, nil
}

func (c *compiler) collect(t reflect.Type, index []int, list *[]field, all *bool) error {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Name == "_" {
			continue
		}
		leave := c.enter("." + f.Name)
		if err := c.collectField(f, append(index[:len(index):len(index)], i), list, all); err != nil {
			return err
		}
		leave()
	}
	return nil
}

func (c *compiler) collectField(f reflect.StructField, index []int, list *[]field, all *bool) error {
	t, err := parseTag(f)
	if err != nil {
		return c.refuse("%w", err)
	}
	if t.skip {
		*all = *all && (!f.IsExported() || cborName(f) == "")
		return nil
	}
	promoted := f.Anonymous && t.name == "" && cborName(f) == f.Name
	if promoted && f.Type.Kind() == reflect.Struct && !marshals(f.Type) {
		return c.collect(f.Type, index, list, all)
	}
	if promoted && f.Type.Kind() == reflect.Pointer {
		return c.refuse("an embedded pointer; give it a name, or embed the struct itself")
	}
	if !f.IsExported() {
		return c.refuse("the field is not exported; export it or tag it `dserver:\"-\"`")
	}
	name := storedName(f, t)
	*list = append(*list, field{name: name, index: index, typ: f.Type, tag: t, plain: name == cborName(f)})
	return nil
}
