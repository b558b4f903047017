package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/rs/zerolog"
)

// Default warns through slog.Default. It is the logger of who was given none.
func Default() zerolog.Logger { return zerolog.New(slogWriter{}).Level(zerolog.WarnLevel) }

// ToSlog writes to a logger of slog, whose level decides.
func ToSlog(to *slog.Logger) zerolog.Logger { return zerolog.New(slogWriter{to.Handler()}) }

// slogWriter gives lines of zerolog to a handler of slog: nil is that of slog.Default, as it is when they come.
type slogWriter struct{ to slog.Handler }

// WriteLevel is called by zerolog with one line.
func (w slogWriter) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	to, at := w.to, slogLevel(level)
	if to == nil {
		to = slog.Default().Handler()
	}
	if !to.Enabled(context.Background(), at) {
		return len(line), nil
	}
	text, fields, err := parseLine(line)
	if err != nil { // a hook of the program may have made it so; it is shown all the same
		text, fields = string(bytes.TrimSpace(line)), nil
	}
	r := slog.NewRecord(time.Now(), at, text, 0)
	r.AddAttrs(fields...)
	return len(line), to.Handle(context.Background(), r)
}

// Write is for lines without a level, of which the library has none.
func (w slogWriter) Write(line []byte) (int, error) { return w.WriteLevel(zerolog.WarnLevel, line) }

func slogLevel(level zerolog.Level) slog.Level {
	switch {
	case level >= zerolog.ErrorLevel:
		return slog.LevelError
	case level == zerolog.WarnLevel:
		return slog.LevelWarn
	case level == zerolog.InfoLevel:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// parseLine finds the text and the fields of a line, in their order. The level and the time are slog's own.
func parseLine(line []byte) (text string, fields []slog.Attr, err error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", nil, errors.Join(err, errNoObject)
	}
	for d.More() {
		var value any
		name, err := d.Token()
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			return "", nil, err
		}
		switch name {
		case zerolog.MessageFieldName:
			text, _ = value.(string)
		case zerolog.LevelFieldName, zerolog.TimestampFieldName:
		default:
			fields = append(fields, slog.Any(name.(string), value))
		}
	}
	_, err = d.Token()
	if err == io.EOF {
		err = errNoObject
	}
	return text, fields, err
}

var errNoObject = errors.New("dserver: a log line is no JSON object")
