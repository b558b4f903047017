// Package wire knows which Go values can become bytes and come back, and which bytes are values: of messages, replies
// and states alike. Whatever stores something asks here, so there is one answer.
//
// A type is checked once, when the program starts (Check). It is refused, with the path to the field, when something of
// its values would be lost on the way. What the type cannot tell is asked of each value, before anybody is told that it
// was taken: how deep it is nested, and whether what methods of the program's own have written is read by them again
// (Type.Verify). Types of plain fields need neither, and pay for neither.
//
// The limits of encoding are those of decoding: a value that can be written can be read, also where the library has
// written more around it. The package knows no store and no server.
package wire
