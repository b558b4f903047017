package sqlite

import (
	"strconv"
	"testing"
	"time"
)

// Each commit gives notice of itself when it can be seen, to all who listen; and a handle that is closed listens no more.
func TestCommitsGiveNotice(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	first, second := listen(db.files.log()), listen(db.files.log())
	for i := range 20 {
		mustSet(t, []*DB{db, other}[i%2], "a", strconv.Itoa(i))
		for _, n := range []*notices{first, second} {
			select {
			case <-n.come:
			case <-time.After(time.Minute):
				t.Fatal("no notice has come")
			}
		}
	}
	first.close()
	for i := range 5 { // those that nobody takes harm nobody
		mustSet(t, db, "a", strconv.Itoa(i))
	}
	second.close()
	if n := listen(db.files.log() + "-not-there"); n.come != nil {
		t.Error("it listens to a file that is not there")
	} else {
		n.close()
	}
}
