package backend

// Future is a read that was started. Its zero value is ready, with T's zero value.
type Future[T any] struct {
	value T
	err   error
	wait  func() (T, error)
}

// Ready returns a future that is known already.
func Ready[T any](value T, err error) Future[T] { return Future[T]{value: value, err: err} }

// Later returns a future that wait fetches. Each Get calls wait.
func Later[T any](wait func() (T, error)) Future[T] { return Future[T]{wait: wait} }

// Get waits for the read, as long as the transaction's context and time limit let it.
func (f Future[T]) Get() (T, error) {
	if f.wait != nil {
		return f.wait()
	}
	return f.value, f.err
}
