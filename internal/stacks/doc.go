// Package stacks says where goroutines are: what code of the program called the library (Caller), and where a function of
// the program's is that does not return (Stacks). It knows the names of the library's own functions, and nothing else of it.
package stacks
