package operate

import (
	"context"
	"strconv"
	"strings"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
	"github.com/dserver-go/dserver/statediff"
)

// SetState writes a state of a known type, if the server still has the version that was seen. It returns the new version, or
// the one that was seen when nothing was changed.
func (s Server) SetState(ctx context.Context, def *turn.Definition, seen backend.Versionstamp, value any) (backend.Versionstamp, error) {
	return s.writeState(ctx, def, seen, func(st turn.State, act *tenant.Act) ([]statediff.Edit, error) {
		edits, err := def.Edits(st, value)
		if err == nil && s.Actor != "" {
			after := st.Rows.Clone()
			after.Apply(edits)
			act.Before, act.After = keepRows(st.Rows), keepRows(after)
		}
		return edits, err
	})
}

// ChangeState changes a state at a path, without its type.
func (s Server) ChangeState(ctx context.Context, seen backend.Versionstamp, c statediff.Change) (backend.Versionstamp, error) {
	return s.writeState(ctx, nil, seen, func(st turn.State, act *tenant.Act) ([]statediff.Edit, error) {
		if st.Version.IsZero() {
			return nil, tenant.Because(tenant.ErrNotFound, "%v has no state", s.Ref)
		}
		edits, was, err := c.Of(st.Rows)
		act.Detail = pathOf(c.Path)
		act.Before = keepValue(was)
		if !c.Remove {
			act.After = keepValue(c.Value)
		}
		return edits, err
	})
}

func (s Server) writeState(
	ctx context.Context, def *turn.Definition, seen backend.Versionstamp, change func(turn.State, *tenant.Act) ([]statediff.Edit, error),
) (backend.Versionstamp, error) {
	var version backend.Future[backend.Versionstamp]
	written := false
	err := s.change(ctx, "SetState", func(tx backend.Tx, _ tenant.Keys, act *tenant.Act) (err error) {
		version = tx.Version()
		written, err = turn.WriteState(tx, s.Ref, def, seen, func(st turn.State) ([]statediff.Edit, error) { return change(st, act) })
		return err
	})
	if err != nil || !written {
		return seen, err
	}
	return version.Get()
}

// pathOf is a path on one line.
func pathOf(path []string) string {
	quoted := make([]string, len(path))
	for i, p := range path {
		if quoted[i] = p; p == "" || strings.ContainsAny(p, "/\"") {
			quoted[i] = strconv.Quote(p)
		}
	}
	return strings.Join(quoted, "/")
}

// keepRows is a state for the list of acts, as it is without its type.
func keepRows(rows *statediff.Rows) *tenant.Kept {
	value, err := statediff.Generic(rows)
	if err != nil {
		return nil
	}
	return keepValue(value)
}

func keepValue(value any) *tenant.Kept {
	if value == nil {
		return nil
	}
	return tenant.KeepValue("", tenant.EncodeRecord(value))
}
