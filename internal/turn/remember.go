package turn

// Remember keeps what was committed, under the version that was committed.
func (t *Turn) Remember() error {
	b := t.Batch
	st := b.state
	st.quiet.proved = st.quiet.proved && t.Head.IsQuiet() // a turn that only answered leaves it so
	switch {
	case b.resets:
		st = State{}
	case t.stamped:
		version, err := t.Version.Get()
		if err != nil {
			t.Memory.State = State{}
			return err
		}
		first := version
		if t.recalled {
			first = st.quiet.first
		}
		st.Version, st.Meta, st.quiet = version, t.Head.Meta, t.proved(first)
		if b.state.Meta.Schema != st.Meta.Schema && t.Def.Form.Tracks() {
			st = State{} // the rows of an older version have the entries that tracked collections load
			break
		}
		st.Rows.Apply(b.edits)
	}
	t.Memory.State = st
	return nil
}

// Outcome is what the sender of a local arrival is told.
func (r Result) Outcome() Outcome {
	switch {
	case r.Declined:
		return Outcome{Declined: true}
	case r.Err != nil && !r.Arrival.Call:
		return Outcome{} // it is a dead letter now: sent, and taken care of
	case r.Err != nil:
		return Outcome{Err: r.Err}
	}
	return Outcome{Reply: r.reply}
}
