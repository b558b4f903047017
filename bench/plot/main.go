// Plot draws a night of the benchmark: calls a second, latencies, the sizes of the store's files, and memory, over the hours.
//
//	go run ./bench -load '^call64$' -night night.csv -for 8h
//	cd bench/plot && go run . ../../night.csv night.svg
package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"image/color"
	"os"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

// panel is one of the pictures, below each other.
type panel struct {
	title  string
	lines  []line
	divide float64
}

type line struct{ column, label string }

var panels = []panel{
	{"thousand calls a second", []line{{"calls_per_second", ""}}, 1000},
	{"latency, ms", []line{{"p50_ms", "p50"}, {"p99_ms", "p99"}, {"longest_ms", "longest"}}, 1},
	{"files, MiB", []line{{"store_bytes", "all"}, {"log_bytes", "log"}}, 1 << 20},
	{"memory, MiB", []line{{"resident_bytes", "resident"}, {"heap_bytes", "heap"}}, 1 << 20},
}

var colors = []color.Color{color.RGBA{R: 0x1f, G: 0x4e, B: 0x9e, A: 255}, color.RGBA{R: 0xd9, G: 0x6c, B: 0x06, A: 255}, color.RGBA{R: 0xa0, G: 0xa0, B: 0xa0, A: 255}}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: plot NIGHT.csv PICTURE.svg")
	}
	columns, err := read(args[0])
	if err != nil {
		return err
	}
	const width, height = 24 * vg.Centimeter, 6 * vg.Centimeter
	canvas := vgsvg.New(width, height*vg.Length(len(panels)))
	tiles := draw.Tiles{Rows: len(panels), Cols: 1, PadX: vg.Millimeter, PadY: 2 * vg.Millimeter,
		PadTop: 5 * vg.Millimeter, PadBottom: 5 * vg.Millimeter, PadLeft: 5 * vg.Millimeter, PadRight: 5 * vg.Millimeter}
	var grid [][]*plot.Plot
	for _, p := range panels {
		drawn, err := p.plot(columns)
		if err != nil {
			return err
		}
		grid = append(grid, []*plot.Plot{drawn})
	}
	for i, row := range plot.Align(grid, tiles, draw.New(canvas)) {
		grid[i][0].Draw(row[0])
	}
	file, err := os.Create(args[1])
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(file)
	return errors.Join(err, file.Close())
}

// read is the columns of a night by their names.
func read(path string) (map[string][]float64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(lines) < 2 {
		return nil, fmt.Errorf("%s has no lines: it is written by bench -night", path)
	}
	columns := map[string][]float64{}
	for _, line := range lines[1:] {
		for i, name := range lines[0] {
			value, err := strconv.ParseFloat(line[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", path, name, err)
			}
			columns[name] = append(columns[name], value)
		}
	}
	return columns, nil
}

// headroom is for the legend.
const headroom = 1.5

func (p panel) plot(columns map[string][]float64) (*plot.Plot, error) {
	drawn := plot.New()
	drawn.Title.Text = p.title
	drawn.X.Label.Text = "minutes"
	drawn.Y.Min = 0
	drawn.Legend.Top = true
	drawn.Add(plotter.NewGrid())
	for i, l := range p.lines {
		values, isThere := columns[l.column]
		if !isThere {
			return nil, fmt.Errorf("there is no column %s: the file is of another release", l.column)
		}
		points := make(plotter.XYs, len(values))
		for k := range values {
			points[k] = plotter.XY{X: columns["seconds"][k] / 60, Y: values[k] / p.divide}
		}
		curve, err := plotter.NewLine(points)
		if err != nil {
			return nil, err
		}
		curve.Color = colors[i]
		drawn.Add(curve)
		if l.label != "" {
			drawn.Legend.Add(l.label+" ", curve)
		}
	}
	drawn.Y.Max *= headroom
	return drawn, nil
}
