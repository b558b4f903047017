package display

import (
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

func TestEachTroubleIsNamedByItsUrgency(t *testing.T) {
	long := time.Now().Add(-time.Hour)
	for name, c := range map[string]struct {
		status dserver.Status
		want   []Urgency
		says   string
	}{
		"nothing":            {dserver.Status{Queued: 3, Delayed: 1, Created: long}, nil, ""},
		"unreadable":         {dserver.Status{Queued: 1, Unreadable: "Count is text"}, []Urgency{Illegible}, "Count is text"},
		"halted":             {dserver.Status{Halted: true, Attempts: 1}, []Urgency{Halted}, "after 1 attempt,"},
		"unlisted":           {dserver.Status{Unlisted: true, Label: "eu\n"}, []Urgency{Unserved}, `"eu\n"`},
		"unhandled":          {dserver.Status{Unhandled: "Ad"}, []Urgency{Unserved}, "Ad"},
		"work":               {dserver.Status{Locked: true, Attempts: 1, Lock: dserver.Lock{Since: long, Limit: 2 * time.Hour}}, nil, ""},
		"work for too long":  {dserver.Status{Locked: true, Attempts: 1, Lock: dserver.Lock{Since: long, Limit: time.Minute}}, []Urgency{Overdue}, "1m0s"},
		"work of no limit":   {dserver.Status{Locked: true, Attempts: 1, Lock: dserver.Lock{Since: long}}, nil, ""},
		"work that fails":    {dserver.Status{Locked: true, Attempts: 2, Lock: dserver.Lock{Since: long, Limit: time.Minute}}, []Urgency{Failing}, "Attempts so far: 1."},
		"failing":            {dserver.Status{Attempts: 2, Failing: []dserver.Failing{{Message: "Add", Attempts: 2}}}, []Urgency{Failing}, "Add fails"},
		"a backlog":          {dserver.Status{Queued: 10_001}, []Urgency{Backlog}, "10001"},
		"no backlog":         {dserver.Status{Queued: 10_000}, nil, ""},
		"a dead letter":      {dserver.Status{DeadLetters: 1}, []Urgency{Dead}, "It has 1 dead letter."},
		"dead letters":       {dserver.Status{DeadLetters: 2}, []Urgency{Dead}, "It has 2 dead letters."},
		"paused":             {dserver.Status{Paused: true, PausedBy: "ada"}, []Urgency{Paused}, "by ada"},
		"paused and failing": {dserver.Status{Paused: true, DeadLetters: 1, Attempts: 1}, []Urgency{Failing, Dead, Paused}, ""},
	} {
		var got []Urgency
		text := ""
		for _, trouble := range Troubles(c.status) {
			got = append(got, trouble.Urgency)
			text += trouble.What + "\n"
			if trouble.Do == "" || trouble.Urgency.String() == Well.String() {
				t.Errorf("%s: %+v does not say what to do", name, trouble)
			}
		}
		if len(got) != len(c.want) || !strings.Contains(text, c.says) {
			t.Fatalf("%s: %v, %s", name, got, text)
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: %v, not %v", name, got, c.want)
			}
		}
	}
}
