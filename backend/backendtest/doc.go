// Package backendtest tests backends, and is what other packages test with instead of one.
//
//   - [Store] and [NewModel]: the model, a store in memory that keeps the contract to the letter.
//
// It is for tests alone: no package of DServer imports it elsewhere.
package backendtest
