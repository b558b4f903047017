package consumer

// runQueue is the servers that wait for a worker, first come first served. The links are in the servers.
type runQueue struct {
	first, last *server
	len         int
}

func (q *runQueue) push(s *server) {
	if q.first == nil {
		q.first = s
	} else {
		q.last.next = s
	}
	q.last = s
	q.len++
}

func (q *runQueue) pop() *server {
	s := q.first
	if s == nil {
		return nil
	}
	q.first, s.next = s.next, nil
	q.len--
	return s
}
