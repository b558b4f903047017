package tenant

// Message is a message by its wire name and CBOR.
type Message struct {
	Name string
	Body []byte
}
