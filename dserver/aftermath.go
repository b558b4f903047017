package dserver

// remember keeps what was committed, under the version that was committed.
func (t *turn) remember() error {
	b := t.batch
	st := b.state
	st.quiet.proved = st.quiet.proved && t.head.isQuiet() // a turn that only answered leaves it so
	switch {
	case b.resets:
		st = state{}
	case t.stamped:
		version, err := t.version.Get()
		if err != nil {
			t.s.state = state{}
			return err
		}
		st.version, st.meta, st.quiet = version, t.head.meta, t.proved()
		if b.state.meta.Schema != st.meta.Schema && t.s.def.schema.Tracks() {
			st = state{} // the rows of an older version have the entries that tracked collections load
			break
		}
		st.rows.Apply(b.edits)
	}
	t.s.state = st
	return nil
}

// hold starts the work of the lock that was taken.
func (t *turn) hold() {
	r := t.batch.results[len(t.batch.results)-1]
	fence, err := t.version.Get()
	if err != nil {
		return // others take over after a lease
	}
	h := &holder{
		ref: t.s.ref(), def: t.s.def, handler: t.s.def.locked[r.envelope.Name],
		item: *r.item, env: r.envelope,
		lock: lock{record: lockRecord{Name: r.envelope.Name, Stamp: r.item.Stamp, Key: t.key, Attempt: 1}, fence: fence},
	}
	t.booked = false // the holder has it now
	t.c.hold(h)
}

func (r result) outcome() outcome {
	switch {
	case r.declined:
		return outcome{declined: true}
	case r.err != nil && !r.arrival.call:
		return outcome{} // it is a dead letter now: sent, and taken care of
	case r.err != nil:
		return outcome{err: r.err}
	}
	return outcome{reply: r.reply}
}
