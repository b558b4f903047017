// Package backendtest tests backends, and is what other packages test with instead of one.
//
//   - [Run]: the conformance suite. What passes it is a backend.
//   - [Store], [NewModel] and [Model]: the model, a store in memory that keeps the contract to the letter.
//   - [EachFault]: a scenario, with each fault at each of its commits. [Chaos]: random faults, for tortures.
//   - [Dump]: all that a database has as text, the same for each run, for goldens.
//   - [Bench]: what the layers above do most, measured.
//
// # How to write a backend
//
// Its own test is an [Opener] and a call, and the same with Bench:
//
//	func TestConformance(t *testing.T) {
//		backendtest.Run(t, func(t testing.TB) func() backend.Database {
//			path := filepath.Join(t.TempDir(), "test.db")
//			return func() backend.Database {
//				db, err := Open(path)
//				if err != nil {
//					t.Fatal(err)
//				}
//				t.Cleanup(func() { db.Close() })
//				return db
//			}
//		})
//	}
//
// The suite opens several handles, which stand for processes: what is shared between them must go through the store. A
// store that can be opened by real processes runs the suite once more with handles that know nothing of each other.
// Work through it in the order of its groups: Reads, Ranges and Writes need no concurrency (go test -run
// '/Reads|Ranges|Writes'); Races are deterministic and name the pair that went wrong; Serializability, Strictness and
// Versionstamps are the same under load; Machine and History are random, print what replays them, and find what the
// others have no name for. A bug of one backend becomes a check of the suite before it is mended.
//
// # Imports
//
// The package is for tests alone, and no package of DServer imports it elsewhere.
package backendtest
