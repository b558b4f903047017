// Package backendtest tests backends, and is what other packages test with instead of one.
//
//   - [Store], [NewModel] and [Model]: the model, a store in memory that keeps the contract to the letter.
//   - [EachFault]: a scenario, with each fault at each of its commits. [Chaos]: random faults, for tortures.
//
// It is for tests alone: no package of DServer imports it elsewhere.
package backendtest
