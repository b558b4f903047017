package statediff

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"testing"
)

type counter struct{ Count int64 }

func BenchmarkDiffOfOneNumber(b *testing.B) {
	s := schemaOf[counter](b)
	r, c := NewRows(), &counter{}
	b.ReportAllocs()
	for b.Loop() {
		c.Count++
		r.Apply(diff(b, s, r, c))
	}
}

func BenchmarkDecodeOfOneNumber(b *testing.B) {
	s := schemaOf[counter](b)
	r, c := rowsOf(b, s, &counter{7}), &counter{}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Decode(r, c); err != nil {
			b.Fatal(err)
		}
	}
}

func perEntry(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
}

type bank struct{ Accounts map[string]account }

func bankOf(n int) *bank {
	s := &bank{make(map[string]account, n)}
	for i := range n {
		s.Accounts["account-"+strconv.Itoa(i)] = account{Owner: "someone", Cents: int64(i)}
	}
	return s
}

func BenchmarkDiffOfMap(b *testing.B) {
	for _, n := range []int{10, 10_000, 100_000} {
		s, v := schemaOf[bank](b), bankOf(n)
		r := rowsOf(b, s, v)
		for _, change := range []string{"nothing", "edit", "insert and delete"} {
			b.Run(fmt.Sprintf("%d/%s", n, change), func(b *testing.B) {
				b.ReportAllocs()
				for i := int64(1); b.Loop(); i++ {
					switch {
					case change == "edit":
						v.Accounts["account-3"] = account{Cents: i}
					case change != "nothing" && i%2 == 0:
						v.Accounts["new"] = account{}
					case change != "nothing":
						delete(v.Accounts, "new")
					}
					r.Apply(diff(b, s, r, v))
				}
				perEntry(b, n)
			})
		}
	}
}

func BenchmarkDecodeOfMap(b *testing.B) {
	const n = 100_000
	s, v := schemaOf[bank](b), bankOf(n)
	r := rowsOf(b, s, v)
	b.ReportAllocs()
	for b.Loop() {
		decode[bank](b, s, r)
	}
	perEntry(b, n)
}

func BenchmarkDiffOfList(b *testing.B) {
	const n = 100_000
	s, c := schemaOf[cart](b), &cart{manyLines(n)}
	r := rowsOf(b, s, c)
	for name, change := range map[string]func(i int){
		"nothing": func(int) {},
		"move":    func(i int) { move(c.Lines, i%n, (i+n/2)%n) },
		"append":  func(int) { c.Lines = append(c.Lines, line{SKU: "new-" + strconv.Itoa(len(c.Lines))}) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				change(i)
				r.Apply(diff(b, s, r, c))
			}
			perEntry(b, n)
		})
	}
}

func BenchmarkDecodeOfList(b *testing.B) {
	const n = 100_000
	s := schemaOf[cart](b)
	r := rowsOf(b, s, &cart{manyLines(n)})
	b.ReportAllocs()
	for b.Loop() {
		decode[cart](b, s, r)
	}
	perEntry(b, n)
}

// BenchmarkTrackedEntry changes one entry of a Map: the cost is to be the same however many there are.
func BenchmarkTrackedEntry(b *testing.B) {
	schema := schemaOf[office](b)
	for _, n := range []int{100, 10_000, 1_000_000} {
		s := &store{rows: NewRows()}
		key := func(i int) string { return fmt.Sprintf("desk-%07d", i) }
		o := schema.New().Interface().(*office)
		for i := range n {
			o.Desks.Set(key(i), desk{Owner: "someone"})
		}
		s.write(diff(b, schema, s.rows, o))
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				o := new(office)
				if err := schema.Bind(o, s); err != nil {
					b.Fatal(err)
				}
				o.Desks.Set(key(i*7919%n), desk{Owner: strconv.Itoa(i)})
				s.write(diff(b, schema, NewRows(), o))
			}
		})
	}
}

// Caches hold the rows of 100,000 idle states of one number each: their memory is what decides how many.
// liveBytes is what the heap holds. What other tests have left in pools is gone only after the second collection.
func liveBytes() float64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func TestIdleStateTakesFewBytes(t *testing.T) {
	const n = 10_000
	s := schemaOf[counter](t)
	kept := make([]*Rows, 0, n)
	before := liveBytes()
	for i := range n {
		r := NewRows()
		r.Apply(diff(t, s, r, &counter{int64(i) << 40}))
		kept = append(kept, r)
	}
	took, said := (liveBytes()-before)/n, float64(kept[1].Bytes())
	t.Logf("%.0f bytes a state, Bytes says %.0f", took, said)
	if took > 200 || said > 200 || said < 0.8*took {
		t.Errorf("a state of one number takes %.0f bytes, Bytes says %.0f", took, said)
	}
	runtime.KeepAlive(kept)
}

func TestBytesIsHonestForManyRows(t *testing.T) {
	s, v := schemaOf[bank](t), bankOf(50_000)
	edits := diff(t, s, NewRows(), v)
	before := liveBytes()
	r := NewRows()
	for _, e := range edits {
		r.Set(e.Key, e.Value)
	}
	diff(t, s, r, v) // builds the index
	took, said := liveBytes()-before, float64(r.Bytes())
	t.Logf("%.0f bytes a row, Bytes says %.0f", took/50_000, said/50_000)
	if said < 0.8*took || said > 1.3*took {
		t.Errorf("%.0f bytes, Bytes says %.0f", took, said)
	}
	runtime.KeepAlive(slices.Clone(edits))
	runtime.KeepAlive(r)
	runtime.KeepAlive(v)
}
