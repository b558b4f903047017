package turn

import (
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/statediff"
)

// Blindness is what a consumer remembers of a state that it could not read.
type Blindness struct {
	Version backend.Versionstamp
	Err     error
	Tries   int
	Until   time.Time
	Told    time.Time
}

// errUnreadable is the error of a state that a type cannot read. Rows that nobody can read are damage.
func errUnreadable(def *Definition, rows *statediff.Rows, err error, advice string) error {
	if _, damaged := statediff.Generic(rows); damaged != nil {
		return fmt.Errorf("%w: decode the state of a server of type %q: %w", backend.ErrCorrupt, def.Name, damaged)
	}
	return tenant.Because(tenant.ErrState, "type %q: %v: %s", def.Name, err, advice)
}

// IsBlind returns why the state of this version could not be read, while it is not to be tried again.
func (m *Memory) IsBlind(version backend.Versionstamp) error {
	if m.doubts == nil || m.doubts.Blind.Version != version || !time.Now().Before(m.doubts.Blind.Until) {
		return nil
	}
	return m.doubts.Blind.Err
}
