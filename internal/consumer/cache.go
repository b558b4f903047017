package consumer

// cache is the idle servers of a consumer in the order of their use, bounded in bytes. The links are in the servers.
type cache struct {
	newest, oldest *server
	bytes, limit   int64
}

// add makes s the newest.
func (c *cache) add(s *server) {
	s.older, s.newer = c.newest, nil
	if c.newest != nil {
		c.newest.newer = s
	} else {
		c.oldest = s
	}
	c.newest = s
	c.bytes += int64(s.bytes)
}

// remove takes s out, because it runs or is forgotten.
func (c *cache) remove(s *server) {
	if s.newer == nil && s.older == nil && c.newest != s {
		return
	}
	if s.newer != nil {
		s.newer.older = s.older
	} else {
		c.newest = s.older
	}
	if s.older != nil {
		s.older.newer = s.newer
	} else {
		c.oldest = s.newer
	}
	s.newer, s.older = nil, nil
	c.bytes -= int64(s.bytes)
}

// victim is the server to forget, nil while there is room.
func (c *cache) victim() *server {
	if c.bytes <= c.limit {
		return nil
	}
	return c.oldest
}
